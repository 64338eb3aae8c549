"""Checks of the configuration: invalid and misspelt variables, and what the values mean together."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from worker.config import Configuration, ConfigurationError, Settings, describe, load_from_process
from worker.dcs.auth.cached_credential import MAX_CREDENTIAL_WAIT_SECONDS
from worker.pipeline.dispatcher import ISOLATION_WAIT_SECONDS
from worker.pipeline.throttle import MAX_PERMIT_WAIT_SECONDS
from worker.policy.diagnostics import (
    Check,
    FailureKind,
    HandlingTime,
    check_consumer_timeout,
    failed,
    ok,
    unchecked,
    warning,
)
from worker.policy.retry_policy import CLAIMS_AWAY_MODES, LOOKUP_MODES
from worker.rabbit.publishing import PUBLISH_TIMEOUT_SECONDS

CHECK_NAME: Final = "configuration"
_SUGGESTION_PREFIX: Final = "the nearest known is "


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """What to check besides the configuration. Without a `project` no call to DCS carries credentials.

    `has_credentials`: whether the configuration has usable credentials. `management`: base URL of the broker's
    management API, if it is to be read.
    """

    project: str | None
    region: str
    has_credentials: bool
    management: str | None


def read_configuration() -> tuple[Configuration | None, bool, list[Check]]:
    """The configuration of this process, None if unusable; whether it has credentials; and the findings."""
    try:
        loaded = load_from_process()
    except ConfigurationError as error:
        checks = [*map(_problem, error.problems), *map(_warning, error.warnings)]
    else:
        return loaded, True, [*map(_warning, loaded.warnings), _summary(loaded)]
    try:
        return load_from_process(credentials=False), False, checks
    except ConfigurationError:
        checks.append(unchecked("everything else", "skipped until the configuration is valid"))
        return None, False, checks


def _problem(text: str) -> Check:
    variable, _, found = text.partition(": ")
    default = next((value for name, value, _ in describe(Settings()) if name == variable and value), None)
    remedy = f"correct {variable}, or unset it: the default is {default}" if default else f"correct {variable}"
    if variable == "credentials":
        remedy = "set the variables of one way to authenticate, and unset those of the others"
    return failed(CHECK_NAME, found, remedy, subject=variable, failure_kind=FailureKind.CONFIGURATION)


def _warning(text: str) -> Check:
    variable, _, said = text.partition(": ")
    found, _, advice = said.partition("; ")
    nearest = advice.removeprefix(_SUGGESTION_PREFIX)
    remedy = f"rename it to {nearest}, or unset it" if nearest != advice else advice or f"unset {variable}"
    return warning(CHECK_NAME, found, remedy, subject=variable)


def _summary(loaded: Configuration) -> Check:
    settings = loaded.settings
    regions = ", ".join(settings.dcs_endpoints)
    claims = "on" if settings.claims_url is not None else "off"
    way: str = settings.auth_method
    if way == "platform":
        way += f" ({loaded.platform.identity or settings.credentials_file or 'metadata'})"
    return ok(CHECK_NAME, f"complete; credentials by {way}, regions {regions}, claims {claims}")


def check_settings(settings: Settings, consumers: int | None, *, has_credentials: bool) -> Iterator[Check]:
    """Findings about values that belong together. `consumers` of the requests queue, None if unknown."""
    waits_for_token_call = has_credentials and settings.auth_method in ("iam", "platform")
    yield check_consumer_timeout(
        HandlingTime(
            tries=settings.tries,
            permit_seconds=MAX_PERMIT_WAIT_SECONDS,
            credential_seconds=MAX_CREDENTIAL_WAIT_SECONDS if waits_for_token_call else 0.0,
            call_seconds=settings.dcs_timeout,
            other_seconds=ISOLATION_WAIT_SECONDS + 2 * PUBLISH_TIMEOUT_SECONDS,
        )
    )
    yield _check_reconciliation(settings)
    yield _check_claims(settings, consumers)


def _check_reconciliation(settings: Settings) -> Check:
    found = f"{settings.reconcile}: {LOOKUP_MODES[settings.reconcile]}"
    if settings.reconcile == "off":
        return warning("reconciliation", found, "set WORKER_RECONCILE=always")
    recognised_by = "marker" if settings.marker else "name, networks and creation time (WORKER_MARKER=false)"
    return ok("reconciliation", f"{found}; tasks are recognised by {recognised_by}")


def _check_claims(settings: Settings, consumers: int | None) -> Check:
    name, remedy = "claims", "set WORKER_CLAIMS_URL=redis://HOST:6379/0, the same for every replica"
    if settings.claims_url is not None:
        return ok(name, f"on, shared through Redis; while Redis is away: {CLAIMS_AWAY_MODES[settings.claims_away]}")
    window = "copies of one request at the same time at two replicas, or before and after a restart, can make two tasks"
    if consumers is None or consumers < 2:
        return unchecked(name, f"off: {window}", remedy)
    return warning(name, f"off, with {consumers} consumers of the queue (a replica can have several): {window}", remedy)

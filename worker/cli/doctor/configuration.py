"""The configuration: its problems, the typing errors in it, and what its values mean together."""

from collections.abc import Iterator
from typing import Final

from worker.config import ConfigurationError, Loaded, Settings, describe, load_from_process
from worker.dcs.auth.lease import PATIENCE as MAX_CREDENTIAL_WAIT_SECONDS
from worker.flow.line import PATIENCE as MAX_PERMIT_WAIT_SECONDS
from worker.flow.service import ISOLATION
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
from worker.policy.waiting import place
from worker.rabbit.publisher import PUBLISH_DEADLINE

CHECK_NAME: Final = "configuration"
_SUGGESTION_PREFIX: Final = "the nearest known is "


def read_configuration() -> tuple[Loaded | None, bool, list[Check]]:
    """The configuration of this process as far as it can be used, whether with credentials, and what is wrong."""
    try:
        loaded = load_from_process()
    except ConfigurationError as error:
        checks = [*map(_problem, error.problems), *map(_warning, error.warnings)]
    else:
        return loaded, True, [*map(_warning, loaded.warnings), _summary(loaded.settings)]
    try:
        return load_from_process(credentials=False), False, checks
    except ConfigurationError:
        checks.append(unchecked("everything else", "the configuration has to be right first"))
        return None, False, checks


def _problem(text: str) -> Check:
    variable, _, found = text.partition(": ")
    default = next((value for name, value, _ in describe(Settings()) if name == variable and value), None)
    remedy = f"correct {variable}, or unset it: the default is {default}" if default else f"set {variable} right"
    if variable == "credentials":
        remedy = "set the variables of one way, and unset those of the others"
    return failed(CHECK_NAME, found, remedy, subject=variable, failure_kind=FailureKind.CONFIGURATION)


def _warning(text: str) -> Check:
    variable, _, found = text.partition(": ")
    _, _, nearest = found.partition(_SUGGESTION_PREFIX)
    remedy = f"rename it to {nearest}, or unset it" if nearest else f"unset {variable}"
    return warning(CHECK_NAME, found.partition(";")[0], remedy, subject=variable)


def _summary(settings: Settings) -> Check:
    regions = ", ".join(settings.dcs_endpoints)
    claims = "on" if settings.claims_url is not None else "off"
    return ok(CHECK_NAME, f"is complete; credentials by {settings.credential_way}, regions {regions}, claims {claims}")


def check_settings(settings: Settings, consumers: int | None, *, has_credentials: bool) -> Iterator[Check]:
    """What the values mean together. `consumers` of the requests queue at present, None if not known."""
    waits_for_token_call = has_credentials and settings.credential_way in ("iam", "platform")
    yield _check_timing(settings)
    yield check_consumer_timeout(
        HandlingTime(
            tries=settings.tries,
            permit_seconds=MAX_PERMIT_WAIT_SECONDS,
            credential_seconds=MAX_CREDENTIAL_WAIT_SECONDS if waits_for_token_call else 0.0,
            call_seconds=settings.dcs_timeout,
            other_seconds=ISOLATION + 2 * PUBLISH_DEADLINE,
        )
    )
    yield _check_reconciliation(settings)
    yield _check_claims(settings, consumers)


def _check_timing(settings: Settings) -> Check:
    """The configuration is refused where these do not fit; here they are said, for whoever wonders."""
    waits = settings.retry_delays[place(settings.retry_delays, settings.settle) - 1]
    found = (
        f"a call ends within {settings.dcs_timeout:g} s, and none is repeated before {settings.settle:g} s, "
        f"which a request spends in the retry queue of {waits:g} s; "
        f"the schedule lasts {sum(settings.retry_delays):g} s in all"
    )
    return ok("timing", found)


def _check_reconciliation(settings: Settings) -> Check:
    if settings.reconcile == "off":
        found = "is off: whatever is not known to have been created or refused ends as unresolved, for a person"
        return warning("reconciliation", found, "set WORKER_RECONCILE=ambiguous")
    when = "before every create" if settings.reconcile == "always" else "whenever a create may have been sent before"
    recognised_by = "marker" if settings.marker else "name, networks and creation time (WORKER_MARKER=false)"
    return ok("reconciliation", f"a task is looked for {when}, by {recognised_by}")


def _check_claims(settings: Settings, consumers: int | None) -> Check:
    name, remedy = "claims", "set WORKER_CLAIMS_URL=redis://HOST:6379/0, the same for every replica"
    if settings.claims_url is not None:
        return ok(name, "are shared through Redis")
    if consumers is not None and consumers > 1:
        found = f"are off, but {consumers} consume the requests queue: two copies of one request may meet"
        return warning(name, found, remedy)
    return unchecked(name, "are off: nothing to check, and nothing to fear with one replica", remedy)

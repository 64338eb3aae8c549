"""Checks of DCS: whether it answers, what its clock says, whether the credentials may look for tasks.

At most two calls: a list of one row, and the details of a task that does not exist. Nothing is created, and a
credential that was refused is not tried again.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import httpx2
from pydantic import ValidationError

from schemas.dcs import ErrorBody, ListReply, read_error
from worker.dcs.auth.auth_method import AuthMethod
from worker.dcs.auth.methods import AuthMethodName
from worker.dcs.auth.signing import canonical_url, skew
from worker.dcs.http_client import HEADERS, HttpClient, new_request
from worker.policy import error_table, health
from worker.policy.call_result import CallError, CallStatus, Condition, ErrorKind
from worker.policy.diagnostics import Check, CheckResult, FailureKind, OnCheck, failed, ok, unchecked, warning
from worker.policy.error_text import SKEW_TOLERANCE_SECONDS, clock_skew, read_text

NOTICEABLE_SKEW_SECONDS: Final = 5.0
"""Seconds by which a clock may be off unnoticed: the Date header has whole seconds, and some time passed since."""
CREDENTIALS: Final = "credentials"
LIST: Final = "permission to list"
SHOW: Final = "permission to show"
ENDPOINT: Final = "endpoint"


def _step(condition: Condition) -> str:
    sentence = health.REMEDIES[condition]
    return sentence[0].lower() + sentence[1:].removesuffix(".")


SET_CLOCK: Final = _step(Condition.CLOCK_SKEW)
REMEDIES: Final[Mapping[AuthMethodName, str]] = {
    "token": "set WORKER_AUTH_TOKEN to a fresh token of this very project (tokens live for 24 h)",
    "keys": "set WORKER_ACCESS_KEY and WORKER_SECRET_KEY to an active pair, and WORKER_SECURITY_TOKEN only with "
    "temporary ones",
    "iam": "correct WORKER_IAM_USER, WORKER_IAM_PASSWORD, WORKER_IAM_DOMAIN or --project, then try once: after some "
    "wrong passwords IAM locks the account",
    "platform": "give an agency that may use DCS to the identity that the check of the configuration names (its "
    "association or provider, or this server), or correct HUAWEICLOUD_SDK_CREDENTIALS_FILE",
}


@dataclass(frozen=True, slots=True)
class Service:
    """One region, and how the worker uses it. `project`: the one to ask for, if any."""

    region: str
    endpoint: str
    project: str | None = None
    way: AuthMethodName | None = None
    needs_lookup: bool = True
    must_show: bool = False
    """Tasks are recognised by the detail call alone."""
    error_of: Callable[[httpx2.Response], ErrorBody] = lambda reply: read_error(reply.content)
    """Reads what an answer says, without secrets."""

    @property
    def remedy(self) -> str:
        """What helps when the credentials are refused."""
        return REMEDIES[self.way] if self.way is not None else "configure credentials"


def answered(reply: httpx2.Response | CallError, service: Service) -> Check:
    """Whether the service is there."""
    if isinstance(reply, CallError):
        found = f"does not answer: {line(reply.message)}"
        remedy = "correct WORKER_DCS_ENDPOINTS, or raise WORKER_DCS_TIMEOUT; else wait for the service"
    elif reply.status_code >= 500:
        found = f"{service.endpoint} answers {reply.status_code}{_said(reply, service)}"
        remedy = "wait for the service; requests wait in the broker meanwhile"
    else:
        return ok("DCS", f"{service.endpoint} answers", subject=service.region)
    return failed("DCS", found, remedy, subject=service.region, failure_kind=FailureKind.UNREACHABLE)


def clock(reply: httpx2.Response, now: float, service: Service) -> Check:
    """Compare this machine's clock with the service's, as its reply of just now tells it."""
    off, subject = skew(reply.headers.get("date"), now), service.region
    if off is None:
        return unchecked("clock", "the reply has no date that can be read", "date -u", subject=subject)
    side = "ahead of" if off > 0 else "behind"
    apart = f"{abs(off):.0f} s" if abs(off) < 120 else f"{abs(off) / 60:.0f} min"
    found = f"this machine's is {apart} {side} the service's"
    if abs(off) <= NOTICEABLE_SKEW_SECONDS:
        return ok("clock", "agrees with the service's", subject=subject)
    if abs(off) > SKEW_TOLERANCE_SECONDS and service.way in ("keys", "platform"):
        found = f"{found}, and signatures are valid for {SKEW_TOLERANCE_SECONDS / 60:.0f} minutes"
        return failed("clock", found, SET_CLOCK, subject=subject)
    return warning("clock", f"{found}: dates in events are off by as much", SET_CLOCK, subject=subject)


def without_credential(error: CallError, service: Service) -> Check:
    """No credentials can be had: IAM, or the metadata of this server, gives none."""
    if error.status is CallStatus.IAM_UNAVAILABLE:
        remedy = (
            "correct WORKER_IAM_ENDPOINT (for STS HUAWEICLOUD_SDK_STS_ENDPOINT); else wait, requests stay in the broker"
        )
        return failed(
            CREDENTIALS, line(error.message), remedy, subject=service.region, failure_kind=FailureKind.UNREACHABLE
        )
    return failed(CREDENTIALS, line(error.message), service.remedy, subject=service.region)


def listed(reply: httpx2.Response, service: Service, explained: str | None) -> Iterator[Check]:
    """Judge the answer to a list call. `explained`: why a 401 may have come."""
    subject, found = service.region, f"DCS answers {reply.status_code}{_said(reply, service)}"
    match error_table.row(reply.status_code, service.error_of(reply).error_code).kind:
        case _ if 200 <= reply.status_code < 300:
            yield ok(CREDENTIALS, f"are accepted in project {service.project}", subject=subject)
            yield _read(reply, service)
        case ErrorKind.FORBIDDEN:
            yield ok(CREDENTIALS, f"are accepted in project {service.project}", subject=subject)
            said = f"no task can be looked for{_said(reply, service)}"
            yield _forbidden(LIST, "dcs:migrationTask:list", said, service, is_needed=service.needs_lookup)
        case ErrorKind.UNAUTHENTICATED:
            is_locked = read_text(401, service.error_of(reply).error_msg).condition is Condition.KEY_LOCKED
            cure = SET_CLOCK if explained else _step(Condition.KEY_LOCKED) if is_locked else service.remedy
            yield failed(CREDENTIALS, explained or f"are refused: {found}", cure, subject=subject)
        case ErrorKind.NOT_FOUND:
            cure = "correct WORKER_DCS_ENDPOINTS (scheme and host, no path), --project or --region"
            found = f"{service.endpoint}: {found}: no such API at this URL, or no such project in this region"
            yield failed(ENDPOINT, found, cure, subject=subject)
        case ErrorKind.THROTTLED:
            yield warning(CREDENTIALS, f"cannot be verified: {found}", "try again in a minute", subject=subject)
        case _:
            cure = "correct --project, --region or WORKER_DCS_ENDPOINTS: the project must be one of this region"
            yield failed(CREDENTIALS, f"cannot be verified: {found}", cure, subject=subject)


def shown(reply: httpx2.Response | CallError, service: Service) -> Check:
    """Judge the answer to a detail call for a task that does not exist."""
    if isinstance(reply, CallError) or reply.status_code in (401, 429) or reply.status_code >= 500:
        return unchecked(SHOW, "the detail call was not answered", "try again in a minute", subject=service.region)
    if reply.status_code == 403:
        which = "no task" if service.must_show else "no task that is listed without its description"
        said = f"{which} can be recognised{_said(reply, service)}"
        is_needed = service.needs_lookup and service.must_show
        return _forbidden(SHOW, "dcs:migrationTask:get", said, service, is_needed=is_needed)
    return ok(SHOW, "details of tasks can be asked for", subject=service.region)


def _read(reply: httpx2.Response, service: Service) -> Check:
    try:
        ListReply.model_validate_json(reply.content)
    except ValidationError:
        found = f"the answer {reply.status_code} is no list of tasks: something else than DCS may have given it"
        return failed(LIST, found, "correct WORKER_DCS_ENDPOINTS", subject=service.region)
    found = "tasks can be looked for; whether any may be created (dcs:migrationTask:create) only a request can tell"
    return ok(LIST, found, subject=service.region)


def _forbidden(name: str, action: str, said: str, service: Service, *, is_needed: bool) -> Check:
    remedy = f"allow the action {action} in IAM, for this user or agency and project"
    judge = failed if is_needed else warning
    return judge(name, f"is missing: {said}", remedy, subject=service.region)


def _said(reply: httpx2.Response, service: Service) -> str:
    error = service.error_of(reply)
    text = ": ".join(part for part in (error.error_code, error.error_msg) if part)
    return f" ({line(text)})" if text else ""


def line(text: str) -> str:
    """A foreign text on one line, and short."""
    return re.sub(r"\s+", " ", text).strip()[:200]


NO_TASK: Final = "00000000-0000-0000-0000-000000000000"
_LISTING: Final = "/v2/{}/migration-tasks?limit=1&offset=0"


async def check_service(
    service: Service, http: HttpClient, credentials: AuthMethod | None, now: Callable[[], float], on_check: OnCheck
) -> None:
    """Check one region; with a project and credentials also what they may do there. `now`: epoch seconds."""
    error, request = None, _request("list", service, "/")
    if credentials is not None:
        listing = _request("list", service, _LISTING.format(service.project))
        error = await credentials.authorise(listing, service.project or "")
        request = listing if error is None else request
    reply = await http.send(request)
    on_check(answered(reply, service))
    if isinstance(reply, httpx2.Response):
        on_check(clock(reply, now(), service))
    if error is not None:
        on_check(without_credential(error, service))
        _skip((LIST, SHOW), "there are no credentials to ask with", service, on_check)
    elif credentials is not None:
        await _check_rights(service, http, credentials, reply, now, on_check)


async def _check_rights(
    service: Service,
    http: HttpClient,
    credentials: AuthMethod,
    reply: httpx2.Response | CallError,
    now: Callable[[], float],
    on_check: OnCheck,
) -> None:
    if isinstance(reply, CallError) or reply.status_code >= 500:
        _skip((CREDENTIALS, LIST, SHOW), "DCS does not answer", service, on_check)
        return
    off = clock_skew(service.error_of(reply).error_msg, skew(reply.headers.get("date"), now()))
    explained = credentials.explain(off) if reply.status_code == 401 else None
    checks = list(listed(reply, service, explained))
    for check in checks:
        on_check(check)
    if checks[-1].result is not CheckResult.OK:
        found = {check.name for check in checks}
        skipped = tuple(name for name in (CREDENTIALS, LIST, SHOW) if name not in found)
        _skip(skipped, "skipped: the list call failed", service, on_check)
        return
    request = _request("show", service, f"/v2/{service.project}/migration-task/{NO_TASK}")
    if await credentials.authorise(request, service.project or "") is None:
        on_check(shown(await http.send(request), service))


def _request(operation: str, service: Service, path: str) -> httpx2.Request:
    return new_request(operation, "GET", canonical_url(f"{service.endpoint}{path}"), HEADERS)


def _skip(names: tuple[str, ...], why: str, service: Service, on_check: OnCheck) -> None:
    for name in names:
        on_check(unchecked(name, why, subject=service.region))

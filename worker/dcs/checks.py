"""Checks of DCS: whether it answers, what its clock says, whether the credentials may look for tasks.

At most two calls: a list of one row, and the details of a task that does not exist. Nothing is created, and a proof
that was refused is not tried again.
"""

from collections.abc import Callable
from typing import Final

import httpx2

from worker.dcs import findings
from worker.dcs.auth.credentials import Credentials
from worker.dcs.auth.signing import canonical_url
from worker.dcs.findings import CREDENTIALS, LIST, SHOW, Service
from worker.dcs.http_client import HEADERS, HttpClient, new_request
from worker.policy.call_result import CallError
from worker.policy.diagnostics import CheckResult, OnCheck, unchecked

NO_TASK: Final = "00000000-0000-0000-0000-000000000000"
_LISTING: Final = "/v2/{}/migration-tasks?limit=1&offset=0"


async def check_service(
    service: Service, http: HttpClient, credentials: Credentials | None, now: Callable[[], float], tell: OnCheck
) -> None:
    """Check one region; with a project and credentials also what they may do there. `now`: epoch seconds."""
    fault, request = (
        None,
        _request("list", service, _LISTING.format(service.project) if credentials is not None else "/"),
    )
    if credentials is not None:
        fault = await credentials.authorise(request, service.project or "")
    reply = await http.send(request if fault is None else _request("list", service, "/"))
    tell(findings.answered(reply, service))
    if isinstance(reply, httpx2.Response):
        tell(findings.clock(reply, now(), service))
    if fault is not None:
        tell(findings.unproved(fault, service))
        _skip((LIST, SHOW), "there are no credentials to ask with", service, tell)
    elif credentials is not None:
        await _check_rights(service, http, credentials, reply, tell)


async def _check_rights(
    service: Service, http: HttpClient, credentials: Credentials, reply: httpx2.Response | CallError, tell: OnCheck
) -> None:
    if isinstance(reply, CallError) or reply.status_code >= 500:
        _skip((CREDENTIALS, LIST, SHOW), "DCS does not answer", service, tell)
        return
    explained = credentials.explain(reply.headers) if reply.status_code == 401 else None
    checks = list(findings.listed(reply, service, explained))
    for check in checks:
        tell(check)
    if checks[-1].result is not CheckResult.OK:
        _skip((LIST, SHOW)[len(checks) - 1 :], "the list call was not granted", service, tell)
        return
    request = _request("show", service, f"/v2/{service.project}/migration-task/{NO_TASK}")
    if await credentials.authorise(request, service.project or "") is None:
        tell(findings.shown(await http.send(request), service))


def _request(operation: str, service: Service, path: str) -> httpx2.Request:
    return new_request(operation, "GET", canonical_url(f"{service.endpoint}{path}"), HEADERS)


def _skip(names: tuple[str, ...], why: str, service: Service, tell: OnCheck) -> None:
    for name in names:
        tell(unchecked(name, why, subject=service.region))

"""The error table: what follows from the result of a DCS call, one row per status, code and condition.

A row says what the answer proves, what kind of error it is and whom it concerns; one function answers each question.
No other module decides by a status, a code or a text.
Sources: DCS API reference, "Error Codes"; API Gateway user guide, "Error Codes". A code appears as `DCS.4133`, as its
older twin `111400133`, or with a blank inside; codes of the gateway begin with `APIG.` or `APIGW.`.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from schemas.event import Reason
from worker.policy.call_result import (
    CallError,
    CallResult,
    CallStatus,
    Condition,
    ErrorKind,
    ErrorScope,
    Evidence,
)


@dataclass(frozen=True, slots=True)
class Row:
    """What one answer means. `scope` is None where the result says nothing about any party."""

    evidence: Evidence
    kind: ErrorKind
    scope: ErrorScope | None


_A, _R, _N = Evidence.AMBIGUOUS, Evidence.REFUSED, Evidence.NEVER_SENT
_REQUEST, _PROJECT, _SERVICE = ErrorScope.REQUEST, ErrorScope.PROJECT, ErrorScope.SERVICE
_CREDENTIALS, _REGION = ErrorScope.CREDENTIALS, ErrorScope.REGION

_BUSY: Final = "4017 4026 4049 4096 4097 4099 4104 4108 4111 4113 4114 4115 4116 4117 4118 4120 4121 4231 4975"
_PROJECT_QUOTA: Final = "4035 4036 4039"
_REQUEST_CAPACITY: Final = "4054 4911"

UNKNOWN_TASK: Final = "DCS.4133"
KEY_LOCK_SECONDS: Final = 300.0
"""For which API Gateway locks an access key. Source: Huawei Cloud, API Gateway, "API signing"."""


def _rows(family: str, numbers: str, row: Row) -> dict[str, Row]:
    return {f"{family}.{number}": row for number in numbers.split()}


BY_CODE: Final[dict[tuple[int, str], Row]] = {
    (status, code): row
    for status, rows in (
        (
            400,
            # The service was busy and refused before it acted.
            _rows("DCS", _BUSY, Row(_R, ErrorKind.RETRY, _REQUEST))
            # A quota of the project is used up: not the sender's mistake.
            | _rows("DCS", _PROJECT_QUOTA, Row(_R, ErrorKind.CAPACITY, _PROJECT))
            # The zone or the subnet that the request chose is full.
            | _rows("DCS", _REQUEST_CAPACITY, Row(_R, ErrorKind.CAPACITY, _REQUEST)),
        ),
        (
            404,
            _rows("DCS", "5101", Row(_R, ErrorKind.RETRY, _REQUEST))  # "Create agency failed", try again later
            # The API is not at this endpoint, for no request.
            | _rows("DCS", "4001", Row(_R, ErrorKind.NOT_FOUND, _REGION))
            | _rows("APIG", "0101", Row(_R, ErrorKind.NOT_FOUND, _REGION)),
        ),
        (405, _rows("DCS", "5001", Row(_R, ErrorKind.NOT_FOUND, _REGION))),
        (
            503,
            _rows("APIG", "0613", Row(_R, ErrorKind.RETRY, _SERVICE)),
        ),  # IAM unavailable: refused while authenticating
    )
    for code, row in rows.items()
}
"""Rows that differ from the row of their status."""

BY_CONDITION: Final[dict[tuple[int, Condition], Row]] = {
    (429, Condition.PROJECT_THROTTLED): Row(_R, ErrorKind.THROTTLED, _PROJECT),
}

BY_STATUS: Final[dict[int, Row]] = {
    401: Row(_R, ErrorKind.UNAUTHENTICATED, _CREDENTIALS),
    403: Row(_R, ErrorKind.FORBIDDEN, _PROJECT),
    404: Row(_R, ErrorKind.NOT_FOUND, _REQUEST),
    408: Row(_A, ErrorKind.RETRY, _SERVICE),  # a time-out proves nothing, whichever party reports it
    429: Row(_R, ErrorKind.THROTTLED, _REGION),
    499: Row(_A, ErrorKind.RETRY, _SERVICE),
}

_OTHER_4XX: Final = Row(_R, ErrorKind.REJECTED, _REQUEST)
_OTHER: Final = Row(_A, ErrorKind.RETRY, _SERVICE)

WITHOUT_ANSWER: Final[dict[CallStatus, ErrorScope | None]] = {
    CallStatus.TIMEOUT: _SERVICE,
    CallStatus.CONNECTION_REFUSED: _SERVICE,
    CallStatus.RESET: _SERVICE,
    CallStatus.STALE_ANSWER: _SERVICE,
    CallStatus.OVERSIZE: _SERVICE,
    CallStatus.UNREADABLE: _SERVICE,
    CallStatus.INCOMPLETE_LIST: _REQUEST,
    CallStatus.STALE: None,  # abandoned here, before anything was asked
    CallStatus.FROZEN: None,
    CallStatus.NO_CREDENTIALS: _SERVICE,
    CallStatus.IAM_UNAVAILABLE: _SERVICE,
    CallStatus.METADATA_UNAVAILABLE: _SERVICE,
}
"""Whom the result of a call concerns that has no answer of the service. Its evidence comes from the call itself."""

_WITHOUT_CREDENTIALS: Final = frozenset({
    CallStatus.NO_CREDENTIALS,
    CallStatus.IAM_UNAVAILABLE,
    CallStatus.METADATA_UNAVAILABLE,
})  # fmt: skip
_FINAL_REASONS: Final = {
    ErrorKind.REJECTED: Reason.REJECTED,
    ErrorKind.UNAUTHENTICATED: Reason.UNAUTHENTICATED,
    ErrorKind.FORBIDDEN: Reason.FORBIDDEN,
    ErrorKind.NOT_FOUND: Reason.NOT_FOUND,
}
_PREFIXED: Final = re.compile(r"^(DCS|APIGW?)\.\s*(\d{4})$")
_OLDER: Final = re.compile(r"^111400(\d{3})$")


def normal_code(code: str | None) -> str | None:
    """The code in the spelling of the table; unchanged if it follows no known spelling."""
    if code is None:
        return None
    code = code.strip()
    if match := _PREFIXED.match(code):
        return f"{match[1].removesuffix('W')}.{match[2]}"
    if match := _OLDER.match(code):
        return f"DCS.4{match[1]}"
    return code


def is_service_code(code: str | None) -> bool:
    """True for an error code of DCS or of the gateway in front of it, in any of its spellings."""
    return (normal_code(code) or "").startswith(("DCS.", "APIG."))


def row(http_status: int, code: str | None, condition: Condition | None = None) -> Row:
    """The row of an answer that is no success, the most particular one first. An unknown answer is ambiguous."""
    by_condition = BY_CONDITION.get((http_status, condition)) if condition is not None else None
    found = by_condition or BY_CODE.get((http_status, normal_code(code) or "")) or BY_STATUS.get(http_status)
    if found is not None:
        return found
    return _OTHER_4XX if 400 <= http_status < 500 else _OTHER


def scope(result: CallResult) -> ErrorScope | None:
    """Whom a result concerns. A success, or an answer about one request, concerns the request alone."""
    if not isinstance(result, CallError):
        return ErrorScope.REQUEST
    if result.kind is ErrorKind.UNAUTHENTICATED:  # IAM denies a project as DCS does
        return ErrorScope.CREDENTIALS
    if result.http_status is None:
        return WITHOUT_ANSWER.get(result.status, ErrorScope.SERVICE)
    return row(result.http_status, result.error_code, result.condition).scope


def is_probe_refused(result: CallResult, scopes: Collection[ErrorScope]) -> bool | None:
    """Whether the result of a probe concerns one of these scopes; None if it says nothing about them.

    Any answer says that the service answers; a 429 says neither that the endpoint nor that the credentials are good.
    """
    found = scope(result)
    if found is None or _SERVICE in scopes:
        return None if found is None else found is _SERVICE
    is_throttled = isinstance(result, CallError) and result.kind is ErrorKind.THROTTLED
    if is_throttled or (found in (_SERVICE, _REGION) and found not in scopes):
        return None
    return found in scopes


def is_unknown_task(error: CallError) -> bool:
    """True if the detail call does not know a task that the list still shows: the task does not exist."""
    return normal_code(error.error_code) == UNKNOWN_TASK


def final_reason(error: CallError) -> Reason | None:
    """The reason with which the request fails because waiting cannot help; None if waiting may help."""
    return _FINAL_REASONS.get(error.kind)


def costs_nothing(error: CallError) -> bool:
    """True if the failed call uses up no place of the retry schedule: a throttle, or missing credentials."""
    return error.kind is ErrorKind.THROTTLED or error.status in _WITHOUT_CREDENTIALS


def asked_wait(error: CallError) -> float:
    """Seconds that the service asks to wait: its Retry-After header, a lock, the window that its text names, else 0."""
    if error.retry_after is not None:
        return error.retry_after
    if error.condition is Condition.KEY_LOCKED:
        return KEY_LOCK_SECONDS
    return error.throttle.window if error.throttle else 0.0

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
from schemas.last_error import LastError
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
    why: str = ""
    """In a few words, for the table in the documents."""
    source: str = ""


_A, _R = Evidence.AMBIGUOUS, Evidence.REFUSED
_REQUEST, _PROJECT, _SERVICE = ErrorScope.REQUEST, ErrorScope.PROJECT, ErrorScope.SERVICE
_CREDENTIALS, _REGION = ErrorScope.CREDENTIALS, ErrorScope.REGION

_DCS: Final = "DCS API reference, Error Codes"
_GATEWAY: Final = "API Gateway, Error Codes"
_TERRAFORM: Final = "terraform-provider-huaweicloud, retried there"
_HTTP: Final = "RFC 9110"

UNKNOWN_TASK: Final = "DCS.4133"
KEY_LOCK_SECONDS: Final = 300.0
"""For which API Gateway locks an access key. Source: Huawei Cloud, API Gateway, "API signing"."""

_INVALID: Final = Row(_R, ErrorKind.REJECTED, _REQUEST, "the request is invalid", _DCS)
CODES: Final = (
    (400, "DCS", "4002 4004 4005 4062 4063 4133 4800 4855", _INVALID),
    (
        *(400, "DCS", "4013 4014 4016 4018 4020 4046 4048 4068 5050"),
        Row(_R, ErrorKind.REJECTED, _REQUEST, "VPC, subnet or security group is unknown or unfit", _DCS),
    ),
    (
        *(400, "DCS", "4017 4026 4096 4097 4099 4104 4108 4111 4113 4114 4115 4116 4117 4118 4120"),
        Row(_R, ErrorKind.RETRY, _REQUEST, "the service is busy and refuses before it acts", _DCS),
    ),
    (
        *(400, "DCS", "4049 4121 4231 4975"),
        Row(_R, ErrorKind.RETRY, _REQUEST, "the service is busy and refuses before it acts", _TERRAFORM),
    ),
    (400, "CBC", "99003651", Row(_R, ErrorKind.RETRY, _REQUEST, "another operation is under way", _TERRAFORM)),
    (
        *(400, "DCS", "4035 4036 4039"),
        Row(_R, ErrorKind.CAPACITY, _PROJECT, "a quota of the project is used up", _DCS),
    ),
    (
        *(400, "DCS", "4054 4911"),
        Row(_R, ErrorKind.CAPACITY, _REQUEST, "the zone or the subnet of the request is full", _DCS),
    ),
    (
        *(400, "APIG", "0104 0105 0106 0204 0205 0602 0607"),
        Row(_R, ErrorKind.RETRY, _REQUEST, "the gateway is configured wrongly, for a time", _GATEWAY),
    ),
    (404, "DCS", "5101", Row(_R, ErrorKind.RETRY, _REQUEST, "the project's DCS agency could not be created", _DCS)),
    (404, "DCS", "4001", Row(_R, ErrorKind.NOT_FOUND, _REGION, "the API is not at this endpoint", _DCS)),
    (404, "APIG", "0101", Row(_R, ErrorKind.NOT_FOUND, _REGION, "the API is not at this endpoint", _GATEWAY)),
    (405, "DCS", "5001", Row(_R, ErrorKind.NOT_FOUND, _REGION, "the API is not at this endpoint", _DCS)),
    (
        *(405, "APIG", "0501 0502"),
        Row(_R, ErrorKind.FORBIDDEN, _PROJECT, "a quota of the gateway's app, or its account is frozen", _GATEWAY),
    ),
    (503, "APIG", "0613", Row(_R, ErrorKind.RETRY, _SERVICE, "IAM does not answer the gateway", _GATEWAY)),
)
"""Status, family of codes, their numbers, and the row."""
BY_CODE: Final[dict[tuple[int, str], Row]] = {
    (status, f"{family}.{number}"): row for status, family, numbers, row in CODES for number in numbers.split()
}
"""Rows that differ from the row of their status, or are known rejections."""

BY_CONDITION: Final[dict[tuple[int, Condition], Row]] = {
    (429, Condition.PROJECT_THROTTLED): Row(_R, ErrorKind.THROTTLED, _PROJECT, "a limit of the project", _GATEWAY),
}

BY_STATUS: Final[dict[int, Row]] = {
    401: Row(_R, ErrorKind.UNAUTHENTICATED, _CREDENTIALS, "the credentials are refused", _GATEWAY),
    403: Row(_R, ErrorKind.FORBIDDEN, _PROJECT, "a right is missing", _DCS),
    404: Row(_R, ErrorKind.NOT_FOUND, _REQUEST, "the project is unknown", _DCS),
    408: Row(_A, ErrorKind.RETRY, _SERVICE, "a time-out proves nothing, whichever party reports it", _HTTP),
    409: Row(_A, ErrorKind.RETRY, _REQUEST, "the task may exist already; without one the request is rejected", _HTTP),
    423: Row(_R, ErrorKind.RETRY, _REQUEST, "locked for a time", "RFC 4918"),
    425: Row(_R, ErrorKind.RETRY, _REQUEST, "too early", "RFC 8470"),
    429: Row(_R, ErrorKind.THROTTLED, _REGION, "a limit of the region", _GATEWAY),
    499: Row(_A, ErrorKind.RETRY, _SERVICE, "the gateway lost its client", "nginx"),
}
"""Rows of answers whose code of DCS or its gateway is not in the table; 408, 409, 429, 499 may come from any party."""

OTHER_4XX: Final = Row(_R, ErrorKind.REJECTED, _REQUEST, "refused by a code that is not in the table", _DCS)
FOREIGN_4XX: Final = Row(_A, ErrorKind.RETRY, _SERVICE, "neither DCS nor its gateway answered: a proxy, a firewall", "")
OTHER: Final = Row(_A, ErrorKind.RETRY, _SERVICE, "an unknown answer proves nothing", "")
_FROM_ANYBODY: Final = frozenset((408, 409, 429, 499))

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
    CallStatus.NO_CREDENTIALS: _CREDENTIALS,
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
_PREFIXED: Final = re.compile(r"^(DCS|APIGW?|CBC)\.\s*(\d{4}|\d{8})$")
_OLDER: Final = re.compile(r"^111400(\d{3})$")
_OLDER_FAMILY: Final = re.compile(r"^111\d{6}$")


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
    normal = normal_code(code) or ""
    return normal.startswith(("DCS.", "APIG.", "CBC.")) or bool(_OLDER_FAMILY.match(normal))


def is_known_code(error: CallError | LastError) -> bool:
    """Whether the table has the code of an answer: a rejection by any other code may be a defect of the service."""
    return (error.http_status, normal_code(error.error_code)) in BY_CODE


def is_conflict(error: CallError | LastError) -> bool:
    """Whether the service says that the task exists already: without one, the request is never created again."""
    return error.http_status == 409


def is_foreign(error: CallError) -> bool:
    """Whether neither DCS nor its gateway gave the answer."""
    return error.http_status is not None and row(error.http_status, error.error_code) is FOREIGN_4XX


def row(http_status: int, code: str | None, condition: Condition | None = None) -> Row:
    """The row of an answer that is no success, the most particular one first. An unknown answer is ambiguous."""
    is_4xx = 400 <= http_status < 500
    if is_4xx and http_status not in _FROM_ANYBODY and not is_service_code(code):
        return FOREIGN_4XX
    by_condition = BY_CONDITION.get((http_status, condition)) if condition is not None else None
    found = by_condition or BY_CODE.get((http_status, normal_code(code) or "")) or BY_STATUS.get(http_status)
    if found is not None:
        return found
    return OTHER_4XX if is_4xx else OTHER


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
    found, error = scope(result), result if isinstance(result, CallError) else None
    # Without credentials DCS was not asked.
    if found is None or (error and found is _CREDENTIALS and error.http_status is None and found not in scopes):
        return None
    if _SERVICE in scopes:
        return found is _SERVICE
    is_throttled = error is not None and error.kind is ErrorKind.THROTTLED
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
    """True if the failed call uses up no retry level: a throttle, or missing credentials."""
    return error.kind is ErrorKind.THROTTLED or error.status in _WITHOUT_CREDENTIALS


def asked_wait(error: CallError) -> float:
    """Seconds that the service asks to wait: its Retry-After header, a lock, the window that its text names, else 0."""
    if error.retry_after is not None:
        return error.retry_after
    if error.condition is Condition.KEY_LOCKED:
        return KEY_LOCK_SECONDS
    return error.throttle.window if error.throttle else 0.0

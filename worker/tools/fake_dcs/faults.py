r"""Fault steps, which say what happens to one call, and the documented error responses.

A script is a list of steps, one per call; the last step repeats. A step is one line of this table. Every step of the
second group also exists with `create then ` in front: the task is created first, then the same happens.

| step                    | task created    | what the caller sees                                                    |
| ----------------------- | --------------- | ----------------------------------------------------------------------- |
| `ok`                    | yes             | 200 with the id                                                         |
| `slow S`                | yes, at once    | 200 with the id, after S seconds                                        |
| `fail [REASON]`         | yes, in vain    | 200 with the id; the task ends as ERROR, its job as FAIL with the reason|
| `create late S`         | after S seconds | never an answer                                                         |
|                         |                 |                                                                         |
| `drop`                  | no              | the connection is reset                                                 |
| `close`                 | no              | the connection is closed in an orderly way, without a byte of answer    |
| `hang`                  | no              | never an answer                                                         |
| `html`                  | no              | 200 with an HTML page                                                   |
| `no id`                 | no              | 200 with `{}`                                                           |
| `cut`                   | no              | 200 with the first half of the body, then the connection is closed      |
| `oversize`              | no              | 200 with a valid body of more than 1 MiB                                |
| `redirect`              | no              | 302 to an address that does not exist                                   |
| `throttle [N/UNIT]`     | no              | 429 `APIGW.0308` that names the window, by default 5/second             |
| `error STATUS [CODE]`   | no              | that status with the documented body of that code                       |
| `reply STATUS [BODY]`   | no              | exactly this status and body, as `application/json`                     |
| a name                  | no              | the error answer of that name in `named_faults`                         |

`throttle`, `error` and `reply` may end with ` retry after N` (header `Retry-After: N`, seconds) or ` retry at N`
(the same moment as an HTTP date). UNIT is `second`, `minute` or a number of them, as in `10/30 second`.
For calls that create nothing (list, show, token) `ok` is the normal answer.

DCS answers an error with `error_code`, `error_msg` and a null `error_ext_msg`; its gateway (codes `APIGW.`) with
`request_id` instead of the last; IAM with an object `error` whose code is a number.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from worker.tools.fake_dcs.named_faults import BY_NAME

WINDOW = r"\d+/(?:\d+ )?(?:second|minute)"

_CREATE_THEN = "create then "
_SECONDS = r" (?P<seconds>\d+(?:\.\d+)?)"
_RETRY = r"(?: retry (?P<retry_form>after|at) (?P<retry_seconds>\d+))?"
_OF_CREATE = {"ok": "", "slow": _SECONDS, "create late": _SECONDS, "fail": r"(?: (?P<reason>.+))?"}
_OF_ANY_CALL = dict.fromkeys(("drop", "close", "hang", "html", "no id", "cut", "oversize", "redirect"), "") | {
    "throttle": rf"(?: (?P<window>{WINDOW}))?{_RETRY}",
    "error": rf" (?P<status>[3-5]\d\d)(?: (?P<code>\w+\.\d+))?{_RETRY}",
    "reply": rf" (?P<status>[2-5]\d\d)(?: (?P<body>.*?))?{_RETRY}",
}
"""What may follow each kind of step."""
_NUMBERS: dict[str, Callable[[str], Any]] = {"seconds": float, "status": int, "retry_seconds": int}


@dataclass(frozen=True, slots=True)
class FaultStep:
    """One parsed step: its kind is the first column of the table, without arguments."""

    text: str
    kind: str
    creates: bool
    """Whether a task is created at once."""
    seconds: float = 0.0
    status: int = 200
    code: str = ""
    """The error code; empty: that of the status."""
    window: str = "5/second"
    body: str = ""
    reason: str = "Failed to create the migration ECS."
    retry_form: str = ""
    """`after`, `at`, or empty for no header Retry-After."""
    retry_seconds: int = 0
    meets_all_calls: bool = False
    """Whether a probability in `faults` is also that of calls that create nothing."""


@lru_cache(maxsize=4096)
def parse_step(text: str) -> FaultStep:
    """Parse one line of the table above. Raises ValueError with a sentence that quotes it."""
    is_after_create = text.startswith(_CREATE_THEN)
    plain = text.removeprefix(_CREATE_THEN)
    if (named := BY_NAME.get(plain)) is not None:
        meets_all = named.meets_all_calls and not is_after_create
        return FaultStep(
            text, "reply", is_after_create, status=named.status, body=named.body, meets_all_calls=meets_all
        )
    kinds = _OF_ANY_CALL if is_after_create else _OF_CREATE | _OF_ANY_CALL
    for kind, arguments in kinds.items():
        found = re.fullmatch(kind + arguments, plain, re.DOTALL)
        if found is not None:
            given = {name: _NUMBERS.get(name, str)(value) for name, value in found.groupdict().items() if value}
            if kind == "throttle":
                given["status"] = 429
            return FaultStep(text, kind, is_after_create or kind in {"ok", "slow", "fail"}, **given)
    msg = f"{text!r} is not a fault step"
    raise ValueError(msg)


def parse_plain_step(text: str) -> FaultStep:
    """Parse a step of a call that creates nothing. Raises ValueError, also if the step creates a task."""
    step = parse_step(text)
    if text.startswith("create "):
        msg = f"{text!r} creates a task, which only a create call can"
        raise ValueError(msg)
    return step


ORDINARY_STEP = parse_step("ok")

ERROR_CODES = {  # of a fault step that names a status only
    400: "DCS.4800",
    401: "APIGW.0307",
    403: "DCS.2003",
    404: "DCS.4001",
    405: "DCS.5001",
    413: "APIGW.0201",
    429: "APIGW.0308",
    502: "APIGW.0201",
    504: "APIGW.0201",
}
ERROR_TEXTS = {
    "111400063": "The job does not exist.",
    "APIGW.0101": "The API does not exist or has not been published in the environment",
    "APIGW.0201": "Backend unavailable",
    "APIGW.0301": "Incorrect IAM authentication information",
    "APIGW.0307": "The token must be updated.",
    "APIGW.0601": "Internal server error",
    "APIGW.0613": "IAM unavailable",
    "DCS.1001": "Invalid token.",
    "DCS.1002": "Token expired.",
    "DCS.1003": "No token in the request.",
    "DCS.1004": "Project ID does not match the token.",
    "DCS.2003": "This role does not have the permission to perform this operation.",
    "DCS.4001": "The requested URL does not exist.",
    "DCS.4002": "Invalid project ID format.",
    "DCS.4004": "Empty request body.",
    "DCS.4005": "The message body contains invalid characters or is not in JSON format.",
    "DCS.4013": "Invalid vpc_id in the request.",
    "DCS.4014": "Invalid security_group_id in the request.",
    "DCS.4016": "Invalid subnet_id in the request.",
    "DCS.4035": "DCS instance quota of the tenant is insufficient.",
    "DCS.4133": "The migration task does not exist.",
    "DCS.4800": "Invalid parameter in the request.",
    "DCS.5000": "Internal service error.",
    "DCS.5001": "This request method is not allowed.",
    "DCS.5101": "Create agency failed.",
}


class ErrorResponse(Exception):  # noqa: N818 - it is an answer, not a defect
    """Raised to answer a call with this status and body."""

    def __init__(
        self, status: int, code: str, text: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status = status
        self.code = code
        self.text = ERROR_TEXTS.get(code, "The request is refused.") if text is None else text
        self.headers = dict(headers or {})
        super().__init__(f"{status} {code}: {self.text}")

    def body(self, request_id: str) -> dict[str, Any]:
        """The body in the shape of DCS or its gateway."""
        if self.code.startswith("APIG"):
            return {"error_code": self.code, "error_msg": self.text, "request_id": request_id}
        return {"error_code": self.code, "error_msg": self.text, "error_ext_msg": None}


class IamErrorResponse(ErrorResponse):
    """Error response of IAM: its code is the status as a number, `title` the status's name."""

    def __init__(self, status: int, text: str, title: str) -> None:
        super().__init__(status, str(status), text)
        self.title = title

    def body(self, request_id: str) -> dict[str, Any]:
        """The body in IAM's shape, without request id."""
        del request_id
        return {"error": {"code": self.status, "message": self.text, "title": self.title}}

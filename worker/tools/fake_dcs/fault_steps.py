r"""CallError steps: what happens to one call, as a line of text.

A script is a list of steps, one per call; the last step repeats. A step is one line of this table. Every step of the
second group also exists with `create then ` in front: the task is created first, then the same happens.

| step                    | task created    | what the caller sees                                                    |
| ----------------------- | --------------- | ----------------------------------------------------------------------- |
| `ok`                    | yes             | 200 with the id                                                         |
| `slow S`                | yes, at once    | 200 with the id, after S seconds                                        |
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

`throttle`, `error` and `reply` may end with ` retry after N` (header `Retry-After: N`, seconds) or ` retry at N`
(the same moment as an HTTP date). UNIT is `second`, `minute` or a number of them, as in `10/30 second`.
For calls that create nothing (list, show, token, projects, metadata) `ok` is the normal answer.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

ResponseKind = Literal[
    "answer",
    "late",
    "drop",
    "close",
    "hang",
    "html",
    "no id",
    "cut",
    "oversize",
    "redirect",
    "error",
    "reply",
]

WINDOW = r"\d+/(?:\d+\ )?(?:second|minute)"

_STEP = re.compile(
    rf"""
    (?: (?P<ok>ok)
      | slow\ (?P<slow>\d+(?:\.\d+)?)
      | create\ late\ (?P<late>\d+(?:\.\d+)?)
      | (?P<creates>create\ then\ )?
        (?: (?P<plain>drop|close|hang|html|no\ id|cut|oversize|redirect)
          | (?: (?P<throttle>throttle)(?:\ (?P<window>{WINDOW}))?
              | error\ (?P<error>[3-5]\d\d)(?:\ (?P<code>\w+\.\d+))?
              | reply\ (?P<reply>[2-5]\d\d)(?:\ (?P<body>.*?))?
            )
            (?:\ retry\ (?P<retry>after|at)\ (?P<wait>\d+))?
        )
    )""",
    re.VERBOSE | re.DOTALL,
)

_CODES = {
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


@dataclass(frozen=True, slots=True)
class FaultStep:
    """One parsed step: whether a task is created at once, and how the call is answered. Durations are seconds."""

    text: str
    response_kind: ResponseKind
    creates: bool = False
    seconds: float = 0.0
    status: int = 200
    code: str = ""
    window: str = "5/second"
    body: str = ""
    retry: tuple[Literal["after", "at"], int] | None = None


@lru_cache(maxsize=4096)
def parse_step(text: str) -> FaultStep:
    """Parse one line of the table above; raises ValueError with a sentence that quotes it."""
    found = _STEP.fullmatch(text)
    if found is None:
        msg = f"{text!r} is not a fault step"
        raise ValueError(msg)
    parts = found.groupdict()
    if parts["ok"]:
        return FaultStep(text, "answer", creates=True)
    if parts["slow"]:
        return FaultStep(text, "answer", creates=True, seconds=float(parts["slow"]))
    if parts["late"]:
        return FaultStep(text, "late", seconds=float(parts["late"]))
    return _parse_response_step(text, parts)


def _parse_response_step(text: str, parts: dict[str, str]) -> FaultStep:
    creates = bool(parts["creates"])
    if parts["plain"]:
        return FaultStep(text, _PLAIN_KINDS[parts["plain"]], creates)
    retry = (_RETRY[parts["retry"]], int(parts["wait"])) if parts["retry"] else None
    if parts["reply"]:
        return FaultStep(text, "reply", creates, status=int(parts["reply"]), body=parts["body"] or "", retry=retry)
    status = 429 if parts["throttle"] else int(parts["error"])
    code = parts["code"] or _CODES.get(status, "DCS.5000")
    return FaultStep(
        text, "error", creates, status=status, code=code, window=parts["window"] or "5/second", retry=retry
    )


_PLAIN_KINDS: dict[str, ResponseKind] = {
    "drop": "drop",
    "close": "close",
    "hang": "hang",
    "html": "html",
    "no id": "no id",
    "cut": "cut",
    "oversize": "oversize",
    "redirect": "redirect",
}
_RETRY: dict[str, Literal["after", "at"]] = {"after": "after", "at": "at"}

ORDINARY_STEP = parse_step("ok")


def creates_no_task(step: FaultStep) -> bool:
    """Whether the step is possible for a call that creates nothing."""
    return step.response_kind != "late" and not step.text.startswith("create then ")

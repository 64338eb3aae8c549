"""Texts of error answers, read in one function: the `Condition` that they name, and its numbers.

The table of errors is in `error_table`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from worker.policy.call_result import Condition, NamedLimit

SKEW_TOLERANCE_SECONDS: Final = 900.0
"""By how much the date of a signature may differ from the service's clock.
Source: Huawei Cloud, API Gateway FAQs, "AK/SK expired"."""
LONGEST_WINDOW_SECONDS: Final = 86400.0

_POLICY: Final = re.compile(r"policy\s+(\w+)\s+over\s+ratelimit", re.IGNORECASE)
_UNIT: Final = r"(second|minute|hour|day)"
_LIMITS: Final = (
    re.compile(rf"limit\s*:\s*(\d{{1,9}})\s*,\s*time\s*:\s*(\d{{1,6}})\s*{_UNIT}", re.IGNORECASE),
    # Other services: "exceeded rate limit is 30 times per minute", "60/minute".
    re.compile(rf"\b(\d{{1,9}})\s*(?:(?:times|requests)\s+per|/)\s*(\d{{1,6}}\s+)?{_UNIT}", re.IGNORECASE),
)
"""Calls, number of units, and the unit of the window."""
_SECONDS: Final[Mapping[str, int]] = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_TIMES: Final = re.compile(r"signature time:\s*(\d{8}T\d{6}Z)\s*,\s*server time:\s*(\d{8}T\d{6}Z)", re.IGNORECASE)
_LOCKED: Final = "access failed to reach the limit"
_UNKNOWN_KEY: Final = ("not exist", "get secretkey failed", "verify aksk signature fail")
_PROJECT_POLICIES: Final = frozenset({"user", "project"})


@dataclass(frozen=True, slots=True)
class ErrorText:
    """What the text of an error answer says; `throttle` only with a condition of throttling."""

    condition: Condition | None = None
    throttle: NamedLimit | None = None


_NOTHING: Final = ErrorText()


def read_text(http_status: int, message: str | None, clock_skew: float | None = None) -> ErrorText:
    """What an error answer says beyond its status and code.

    `message`: the error message of the body. `clock_skew`: seconds by which this machine's clock is ahead of the
    service's, by the Date header of the answer; None if unknown.
    """
    if http_status == 429:
        return _throttle(message or "")
    if http_status == 401 and _LOCKED in (message or "").lower():
        return ErrorText(Condition.KEY_LOCKED)
    if http_status == 401 and clock_skew is not None and abs(clock_skew) > SKEW_TOLERANCE_SECONDS:
        return ErrorText(Condition.CLOCK_SKEW)
    return _NOTHING


def clock_skew(message: str | None, by_date: float | None) -> float | None:
    """Seconds by which this machine's clock is ahead, by the two times in the text of a refusal, else by its date."""
    if (match := _TIMES.search(message or "")) is None:
        return by_date
    try:
        signed, answered = (datetime.strptime(time, "%Y%m%dT%H%M%S%z").timestamp() for time in match.groups())
    except ValueError:
        return by_date
    return signed - answered


def of_unknown_party(status: int, headers: Mapping[str, str], text: str | None) -> str:
    """What an answer without a code of DCS or its gateway says, with the names of its senders (100 characters each)."""
    names = [f"{name} {headers[name][:100]}" for name in ("server", "via") if name in headers]
    by = "".join(char if char.isprintable() else "?" for char in ", ".join(names))
    if status >= 500:  # of DCS too, which does not always give a code
        answer = f"HTTP {status} ({by})" if by else f"HTTP {status}"
    else:
        answer = f"HTTP {status} from neither DCS nor its gateway ({by or 'no name'})"
    return f"{answer}: {text}" if text else answer


def hint(http_status: int, code: str | None, message: str | None) -> str:
    """What an operator should check after a refusal whose own text does not say it; empty where it does."""
    text = (message or "").lower()
    if http_status == 401 and any(sign in text for sign in _UNKNOWN_KEY):
        return "temporary keys also need WORKER_SECURITY_TOKEN; else the key belongs to another cloud or was deleted"
    if http_status == 401 and code in ("APIG.0307", "APIGW.0307"):
        return "the token is expired, or it was issued for another region"
    return ""


def _throttle(message: str) -> ErrorText:
    """Whose limit a throttling message speaks of, and the limit (`policy user over ratelimit,limit:5,time:1 second`).

    A policy without a window still says whose limit it is.
    """
    policy = _POLICY.search(message)
    match = next((match for limit in _LIMITS if (match := limit.search(message))), None)
    if policy is None and match is None:
        return _NOTHING
    is_of_project = policy is not None and policy[1].lower() in _PROJECT_POLICIES
    condition = Condition.PROJECT_THROTTLED if is_of_project else Condition.REGION_THROTTLED
    if match is None:
        return ErrorText(condition)
    calls, count, unit = match.groups()
    window = max(1, int(count or 1)) * _SECONDS[unit.lower()]
    return ErrorText(condition, NamedLimit(max(1, int(calls)), min(float(window), LONGEST_WINDOW_SECONDS)))

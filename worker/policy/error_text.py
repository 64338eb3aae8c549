"""Texts of error answers, read in one function: the `Condition` that they name, and its numbers.

The table of errors is in `error_table`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from worker.policy.call_result import Condition, NamedLimit

SKEW_TOLERANCE_SECONDS: Final = 900.0
"""By how much the date of a signature may differ from the service's clock.
Source: Huawei Cloud, API Gateway FAQs, "AK/SK expired"."""
LONGEST_WINDOW_SECONDS: Final = 86400.0

_THROTTLE: Final = re.compile(
    r"(?:policy\s+(?P<policy>\w+)\s+over\s+ratelimit\s*,\s*)?limit\s*:\s*(?P<calls>\d{1,9})\s*,\s*"
    r"time\s*:\s*(?P<count>\d{1,6})\s*(?P<unit>second|minute|hour|day)",
    re.IGNORECASE,
)
_SECONDS: Final[Mapping[str, int]] = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_LOCKED: Final = "access failed to reach the limit"
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


def _throttle(message: str) -> ErrorText:
    """The limit that a throttling message names (`policy user over ratelimit,limit:5,time:1 second`)."""
    match = _THROTTLE.search(message)
    if match is None:
        return _NOTHING
    window = max(1, int(match["count"])) * _SECONDS[match["unit"].lower()]
    is_of_project = (match["policy"] or "").lower() in _PROJECT_POLICIES
    condition = Condition.PROJECT_THROTTLED if is_of_project else Condition.REGION_THROTTLED
    return ErrorText(condition, NamedLimit(max(1, int(match["calls"])), min(float(window), LONGEST_WINDOW_SECONDS)))

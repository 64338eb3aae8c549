"""How long to wait: in hand for moments, in the broker for long, and never less than the service asks."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from worker.policy.fault import Scope, Throttle

BACKOFF_FIRST: Final = 0.2
BACKOFF_CEILING: Final = 5.0
IN_HAND: Final = 5.0
"""Longer waits belong to the broker: nothing is held unacknowledged for them."""

_WINDOW: Final = re.compile(
    r"(?:policy\s+(?P<policy>\w+)\s+over\s+ratelimit\s*,\s*)?limit\s*:\s*(?P<calls>\d{1,9})\s*,\s*"
    r"time\s*:\s*(?P<count>\d{1,6})\s*(?P<unit>second|minute|hour|day)",
    re.IGNORECASE,
)
_SECONDS: Final[Mapping[str, int]] = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_LONGEST: Final = 86400.0


def backoff(attempt: int, chance: float) -> float:
    """Seconds before the try after `attempt` (1 is the first): exponential with full jitter.

    `chance` is uniform in [0, 1). https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return chance * min(BACKOFF_CEILING, BACKOFF_FIRST * 2.0 ** min(attempt - 1, 16))


def reconnect(failures: int, chance: float) -> float:
    """Seconds before connecting again after `failures` in a row: 0.5 doubling up to 15, half of it jitter."""
    return min(15.0, 0.5 * 2.0 ** min(failures - 1, 16)) * (0.5 + chance / 2)


def throttle(message: str | None) -> Throttle | None:
    """The limit that a throttling message names (`policy user over ratelimit,limit:5,time:1 second`)."""
    match = _WINDOW.search(message or "")
    if match is None:
        return None
    window = max(1, int(match["count"])) * _SECONDS[match["unit"].lower()]
    scope = Scope.PROJECT if (match["policy"] or "").lower() in ("user", "project") else Scope.REGION
    return Throttle(max(1, int(match["calls"])), min(float(window), _LONGEST), scope)


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for, in either form (RFC 9110, 10.2.3). `now`: epoch seconds."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)  # an HTTP date is UTC, also in the form that does not say so
    return min(max(0.0, moment.timestamp() - now), _LONGEST)


def place(delays: Sequence[float], at_least: float) -> int:
    """The first place (from 1) of the schedule that waits `at_least` seconds; the last if none does."""
    return next((n for n, delay in enumerate(delays, 1) if delay >= at_least), len(delays))

"""How long to wait: in hand for moments, in the broker for long, and never less than the service asks."""

from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

BACKOFF_FIRST: Final = 0.2
BACKOFF_CEILING: Final = 5.0
IN_HAND: Final = 5.0
"""Longer waits belong to the broker: nothing is held unacknowledged for them."""

_LONGEST: Final = 86400.0


def backoff(attempt: int, random_unit: float) -> float:
    """Seconds before the try after `attempt` (1 is the first): exponential with full jitter.

    `chance` is uniform in [0, 1). https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return random_unit * min(BACKOFF_CEILING, BACKOFF_FIRST * 2.0 ** min(attempt - 1, 16))


def reconnect(failures: int, random_unit: float) -> float:
    """Seconds before connecting again after `failures` in a row: 0.5 doubling up to 15, half of it jitter."""
    return min(15.0, 0.5 * 2.0 ** min(failures - 1, 16)) * (0.5 + random_unit / 2)


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

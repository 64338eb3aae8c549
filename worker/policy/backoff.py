"""How long to wait: in hand for moments, in the broker for long, and never less than the service asks."""

from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from math import inf
from typing import Final

BACKOFF_FIRST: Final = 0.2
BACKOFF_CEILING: Final = 5.0
MAX_ATTEMPT_WAIT_SECONDS: Final = 5.0
"""Between two attempts of one delivery. Longer waits belong to the broker: nothing is held unacknowledged for them."""

RETURN_RATE: Final = 10.0
"""Requests per second that may come back from the retry queues where no rate limits them."""
_LONGEST: Final = 86400.0


def backoff(attempt: int, random_unit: float) -> float:
    """Seconds before the try after `attempt` (1 is the first): exponential with full jitter.

    `random_unit` is uniform in [0, 1). https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
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


def level_for_wait(delays: Sequence[float], at_least: float) -> int:
    """The first retry level (from 1) that waits `at_least` seconds; the last if none does."""
    return next((n for n, delay in enumerate(delays, 1) if delay >= at_least), len(delays))


class RetrySpread:
    """Spreads postponed requests over the retry queues, so that they do not come back as one crowd.

    Timing wheels (https://doi.org/10.1145/41457.37504): each queue takes what can be used up until those of the next
    longer one come back, the last takes the rest.
    """

    def __init__(self, delays: Sequence[float]) -> None:
        self._delays = delays
        self._since, self._taken = [-inf] * len(delays), [0] * len(delays)

    def choose(self, rate: float, at_least: float, now: float) -> float:
        """The wait of one more request, where `rate` requests per second can be used."""
        for n, delay in enumerate(self._delays[:-1]):
            if now - self._since[n] > delay:
                self._since[n], self._taken[n] = now, 0
            if delay >= at_least and self._taken[n] < rate * self._delays[n + 1]:
                self._taken[n] += 1
                return delay
        return self._delays[-1]

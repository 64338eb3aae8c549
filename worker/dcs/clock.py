"""Whether this machine's clock is the reason why signatures are refused."""

from datetime import UTC
from email.utils import parsedate_to_datetime

from worker.policy.error_text import SKEW_TOLERANCE_SECONDS


def skew(date: str | None, now: float) -> float | None:
    """Seconds by which this clock is ahead of the service's (behind it: negative); None if the reply does not tell.

    `date`: the Date header of a reply that came just now; `now`: epoch seconds.
    """
    try:
        moment = parsedate_to_datetime(date or "")
    except (ValueError, TypeError, OverflowError):
        return None
    return now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def wrong_clock(date: str | None, now: float) -> str | None:
    """A sentence, if the clocks differ by so much that the service accepts no signature; else None."""
    off = skew(date, now)
    if off is None or abs(off) <= SKEW_TOLERANCE_SECONDS:
        return None
    side = "ahead of" if off > 0 else "behind"
    return (
        f"the clock of this machine is {abs(off) / 60:.0f} min {side} the service's; "
        f"signatures are valid for {SKEW_TOLERANCE_SECONDS / 60:.0f} minutes"
    )

"""RFC 3339 times in UTC with milliseconds; inside the worker a time is epoch seconds."""

import re
from datetime import UTC, datetime
from functools import lru_cache
from math import modf
from typing import Final

PATTERN: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)
"""The form of an RFC 3339 time, offset included, without leap seconds, which datetimes do not have.

Looser readers take `20261201` for seconds since 1970.
"""

_FORM: Final = re.compile(PATTERN)


def to_text(seconds: float) -> str:
    """`2026-12-01T00:00:00.000Z` for epoch seconds."""
    fraction, whole = modf(seconds)
    microseconds = round(fraction * 1e6)  # as `datetime` rounds, so that what is written is what it reads back
    second, microsecond = divmod(int(whole) * 1_000_000 + microseconds, 1_000_000)
    return f"{_second(second)}.{microsecond // 1000:03d}Z"


@lru_cache(maxsize=1024)
def _second(second: int) -> str:
    # Most of the work, and many times are of one second.
    return datetime.fromtimestamp(second, UTC).isoformat(timespec="seconds").removesuffix("+00:00")


def is_time(text: str) -> bool:
    """Whether `text` has the form of an RFC 3339 time; the moment itself may still not exist."""
    return _FORM.fullmatch(text) is not None


def from_text(text: object) -> float | None:
    """Epoch seconds of an RFC 3339 text; None for anything else, a time without an offset included."""
    if not isinstance(text, str) or not is_time(text):
        return None
    try:
        # In UTC, so that what was read can be written: an offset can lead out of the years 1 to 9999.
        return datetime.fromisoformat(text.upper()).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return None

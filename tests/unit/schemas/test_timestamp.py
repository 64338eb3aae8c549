"""Times on the wire: text and epoch seconds, both ways."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.timestamp import PATTERN, from_text, to_text

YEAR_1 = -62135596800.0
YEAR_9999 = 253402300799.0

times = st.floats(YEAR_1, YEAR_9999)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1764547200.123, "2025-12-01T00:00:00.123Z"),
        (1.9999999, "1970-01-01T00:00:02.000Z"),
        (-0.5, "1969-12-31T23:59:59.500Z"),
        (YEAR_1, "0001-01-01T00:00:00.000Z"),
    ],
)
def test_seconds_become_text(seconds: float, text: str) -> None:
    """Epoch seconds are written in UTC with exactly three decimals and a year of four digits."""
    assert to_text(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01t00:00:00.250z", 0.25),
        ("1970-01-01T08:00:00+08:00", 0.0),
        ("1969-12-31 19:00:00-05:00", 0.0),
        ("1970-01-01T00:00:00.123456789Z", 0.123456),
    ],
)
def test_text_becomes_seconds(text: str, seconds: float) -> None:
    """Every form that RFC 3339 allows is read."""
    assert from_text(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        True,
        b"1970-01-01T00:00:00Z",
        "",
        "1970-01-01",
        "1970-01-01T00:00:00",
        "19700101T000000Z",
        "1970-W01-4T00:00:00Z",
        "1970-01-01T00:00Z",
        "1970-13-01T00:00:00Z",
        "1970-01-01T00:00:00Z\0",
        "1970-01-01T00:00:00Z\n",
        "1970-01-01T00:00:00+25:00",
        "1970-01-01T00:00:00.1234567890Z",
        "١٩٧٠-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_anything_else_is_no_time(text: object) -> None:
    """What is no RFC 3339 text, or no moment of the years 1 to 9999 in UTC, is None."""
    assert from_text(text) is None


@given(times)
def test_a_time_survives_the_wire(seconds: float) -> None:
    """A time read back is the one written, cut to milliseconds."""
    back = from_text(to_text(seconds))
    assert back is not None
    assert seconds - 0.0011 < back <= seconds + 0.0001


@given(st.floats(0.0, 2.0**33))
def test_a_time_does_not_drift(seconds: float) -> None:
    """A time handed on from copy to copy stays the same text (as long as a float can tell microseconds apart)."""
    text = to_text(seconds)
    back = from_text(text)
    assert back is not None
    assert to_text(back) == text


@given(st.text() | st.from_regex(PATTERN, fullmatch=True))
def test_every_time_that_is_read_can_be_written(text: str) -> None:
    """No text makes reading fail, and what was read can be written."""
    seconds = from_text(text)
    if seconds is not None:
        assert re.fullmatch(PATTERN, to_text(seconds))

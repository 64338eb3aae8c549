"""The service's clock, read from its replies."""

import pytest

from worker.dcs.auth.signing import skew, wrong_clock

NOW = 1_700_000_000.0
"""Tue, 14 Nov 2023 22:13:20 GMT."""


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Tue, 14 Nov 2023 22:13:20 GMT", 0.0),
        ("Tue, 14 Nov 2023 22:13:20 -0000", 0.0),
        ("Tue, 14 Nov 2023 22:03:20 GMT", 600.0),
        ("Wed, 15 Nov 2023 00:13:20 +0200", 0.0),
        ("Tue, 14 Nov 2023 22:23:20 GMT", -600.0),
    ],
)
def test_the_difference_of_the_clocks(date: str, seconds: float) -> None:
    """Positive when this machine is ahead, whatever the zone that the date is given in."""
    assert skew(date, NOW) == seconds


@pytest.mark.parametrize(
    "date", [None, "", "yesterday", "Tue, 99 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 99999 1:1:1 GMT"]
)
def test_an_odd_date_tells_nothing(date: str | None) -> None:
    """A missing or unreadable date is no difference and no error."""
    assert skew(date, NOW) is None
    assert wrong_clock(skew(date, NOW)) is None


@pytest.mark.parametrize(
    ("off", "words"),
    [(-901.0, "15 min behind the service's"), (901.0, "15 min ahead of the service's"), (7200.0, "120 min ahead of")],
)
def test_more_than_fifteen_minutes_explain_a_refusal(off: float, words: str) -> None:
    """The sentence names by how much and in which direction."""
    assert words in (wrong_clock(off) or "")


@pytest.mark.parametrize("off", [-900.0, 0.0, 900.0])
def test_less_explains_nothing(off: float) -> None:
    """Signatures are accepted up to 15 minutes."""
    assert wrong_clock(off) is None

"""How long to wait: backoff, reconnecting, throttle windows, Retry-After, places of the schedule."""

import time
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.policy import backoff

DAY = 86400.0
chances = st.floats(0.0, 1.0, exclude_max=True)


@pytest.mark.parametrize(("attempt", "most"), [(1, 0.2), (2, 0.4), (3, 0.8), (5, 3.2), (6, 5.0), (10_000, 5.0)])
def test_backoff_doubles_up_to_its_ceiling(attempt: int, most: float) -> None:
    """The wait lies anywhere between nothing and 0.2 s doubled per attempt, never above 5 s."""
    assert backoff.backoff(attempt, 0.0) == 0.0
    assert backoff.backoff(attempt, 0.5) == pytest.approx(most / 2)
    assert backoff.backoff(attempt, 1.0) == pytest.approx(most)


@pytest.mark.parametrize(("failures", "most"), [(1, 0.5), (2, 1.0), (5, 8.0), (6, 15.0), (10_000, 15.0)])
def test_reconnecting_waits_half_in_earnest_and_half_by_chance(failures: int, most: float) -> None:
    """The wait lies in the upper half of 0.5 s doubled per failure, never above 15 s."""
    assert backoff.reconnect(failures, 0.0) == pytest.approx(most / 2)
    assert backoff.reconnect(failures, 1.0) == pytest.approx(most)


@given(st.integers(1, 10**6), chances)
def test_waits_are_bounded(count: int, random_unit: float) -> None:
    """However often something failed, the waits stay within their bounds."""
    assert 0.0 <= backoff.backoff(count, random_unit) <= backoff.BACKOFF_CEILING
    assert 0.25 <= backoff.reconnect(count, random_unit) <= 15.0


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose local time is not UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Shanghai")
        time.tzset()
        yield
    time.tzset()


NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110, 5.6.7


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("0000000000120", 120.0),
        ("9" * 400, DAY),
        ("Sun, 06 Nov 1994 08:49:40 GMT", 3.0),
        ("Sunday, 06-Nov-94 08:49:40 GMT", 3.0),
        ("Sun Nov  6 08:49:40 1994", 3.0),
        ("Sun, 06 Nov 1994 08:49:40 -0000", 3.0),
        ("Sun, 06 Nov 1994 09:49:40 +0100", 3.0),
        ("Sun, 06 Nov 1994 08:49:30 GMT", 0.0),
        ("Sun, 06 Nov 2094 08:49:30 GMT", DAY),
    ],
)
@pytest.mark.usefixtures("far_east")
def test_retry_after_is_read_in_both_forms(value: str, seconds: float) -> None:
    """Seconds and all three forms of an HTTP date are read, wherever the worker runs, up to a day."""
    assert backoff.retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "-5",
        "1.5",
        "soon",
        "²",
        "١٢٠",
        "Sun, 99 Nov 1994 08:49:40 GMT",
        "1-Jan-70 19.12.08 99999999999999999999",
    ],
)
def test_other_retry_after_says_nothing(value: str | None) -> None:
    """A header that is neither form is as good as none."""
    assert backoff.retry_after(value, NOW) is None


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(("Mon,", "20", "Nov", "1995", "19:12:08", "+0000", "+99999999999", "9" * 20, "-", "GMT", "0")),
        max_size=8,
    ).map(" ".join)
)
def test_no_retry_after_does_harm(value: str) -> None:
    """Whatever stands in the header, the wait is none or between nothing and a day."""
    wait = backoff.retry_after(value, NOW)
    assert wait is None or 0.0 <= wait <= DAY


@pytest.mark.parametrize(
    ("at_least", "level_for_wait"), [(0.0, 1), (10.0, 1), (10.1, 2), (60.0, 2), (299.0, 3), (1800.0, 4), (1e9, 4)]
)
def test_the_first_place_that_waits_long_enough(at_least: float, level_for_wait: int) -> None:
    """A wait goes to the first retry level that is at least as long; to the last if none is."""
    assert backoff.level_for_wait((10.0, 60.0, 300.0, 1800.0), at_least) == level_for_wait


def test_postponed_requests_come_back_as_they_can_be_used() -> None:
    """Each queue takes what can be used until those of the next one come back."""
    spread = backoff.RetrySpread((10.0, 60.0, 300.0, 1800.0))
    assert Counter(spread.choose(2.0, 0.0, 1.0) for _ in range(5000)) == {
        10.0: 120,
        60.0: 600,
        300.0: 3600,
        1800.0: 680,
    }
    assert spread.choose(2.0, 0.0, 11.5) == 10.0
    assert spread.choose(2.0, 100.0, 400.0) == 300.0
    assert backoff.RetrySpread((50.0,)).choose(1.0, 90.0, 0.0) == 50.0

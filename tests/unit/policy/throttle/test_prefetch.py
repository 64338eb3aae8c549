"""The prefetch: twice the calls at once, at least eight, at most what is configured, seldom changed."""

import pytest

from worker.policy.throttle.prefetch import fitting_prefetch


@pytest.mark.parametrize(("limit", "expected"), [(1, 8), (4, 8), (5, 16), (16, 32), (17, 64), (64, 64), (1000, 64)])
def test_rises_to_twice_the_limit_at_once(limit: int, expected: int) -> None:
    """Rises to twice the limit at once."""
    assert fitting_prefetch(8, limit, 64) == expected


@pytest.mark.parametrize(("limit", "expected"), [(30, 64), (16, 64), (10, 32), (8, 32), (5, 16), (1, 8)])
def test_falls_later_than_it_rises(limit: int, expected: int) -> None:
    """So that a limit that goes up and down does not take it along."""
    assert fitting_prefetch(64, limit, 64) == expected


@pytest.mark.parametrize("ceiling", [1, 3, 8])
def test_never_exceeds_what_is_configured(ceiling: int) -> None:
    """Never exceeds what is configured."""
    assert fitting_prefetch(ceiling, 64, ceiling) == ceiling

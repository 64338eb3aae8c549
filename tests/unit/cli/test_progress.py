"""Pacer and progress display of bulk commands."""

import io

import pytest

from tests.fakes.clock import FakeClock
from worker.cli.progress import Pacer, ProgressDisplay


async def test_rate_is_kept_and_a_pause_earns_no_burst() -> None:
    """Eleven items at 10 per second take a second, and after a pause only the delay of a rough timer is caught up."""
    clock = FakeClock(0.0)
    pacer = Pacer(10, clock, clock.pass_time)
    for _ in range(11):
        await pacer.wait()
    assert clock.now == pytest.approx(1.0)

    clock.now += 60
    started = clock.now
    for _ in range(11):
        await pacer.wait()
    assert clock.now - started == pytest.approx(0.9)


async def test_without_rate_there_is_no_wait() -> None:
    """The clock stands still."""
    clock = FakeClock(0.0)
    pacer = Pacer(None, clock, clock.pass_time)
    for _ in range(100):
        await pacer.wait()
    assert clock.now == 0


def test_progress_without_terminal_is_plain_lines() -> None:
    """The last line is always printed, and items done before do not count for the rate."""
    stream = io.StringIO()
    with ProgressDisplay("sent", 2000, stream) as display:
        display.start_at(1000)
        display.update(1500)

    (line,) = stream.getvalue().splitlines()
    assert line.startswith("1,500 of 2,000 sent, ")
    assert line.endswith(" left")
    assert "\x1b" not in line

"""The virtual clock: it moves, it never waits, and whose code runs is up to its life."""

import asyncio
import contextvars
from collections.abc import Iterator

import pytest

from tests.simulation.world.event_loop import EndlessError, Timers, VirtualLoop
from tests.simulation.world.life import LIFE, Life


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    """A virtual loop, cleaned up."""
    with VirtualLoop() as loop:  # type: ignore[abstract] # it has what is used
        yield loop


def begin(loop: VirtualLoop, life: Life, coroutine: object) -> None:
    """Start a task that belongs to a life."""
    context = contextvars.copy_context()
    context.run(LIFE.set, life)
    loop.call_soon(loop.create_task, coroutine, context=context)  # type: ignore[arg-type]


def run(loop: VirtualLoop) -> None:
    """Run until nothing is left to do."""
    loop.run(until=1e6, steps=10_000)


def test_hours_pass_at_once(loop: VirtualLoop) -> None:
    """Sleeps and timeouts of asyncio go by the virtual clock."""
    told: list[float] = []

    async def work() -> None:
        await asyncio.sleep(3600.0)
        told.append(loop.time())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60.0):
                await loop.create_future()
        told.append(loop.time())

    begin(loop, Life(), work())
    run(loop)
    assert told == [3600.0, 3660.0]


def test_a_cancelled_timer_moves_no_clock(loop: VirtualLoop) -> None:
    """A timeout that was not needed leaves no trace."""

    async def work() -> None:
        async with asyncio.timeout(500.0):
            await asyncio.sleep(1.0)

    begin(loop, Life(), work())
    run(loop)
    assert loop.now == 1.0


def test_the_dead_do_nothing(loop: VirtualLoop) -> None:
    """What a life had scheduled never runs once it is gone, not even its cleaning up, until the run is over."""
    told: list[str] = []
    life = Life()

    async def work() -> None:
        try:
            await asyncio.sleep(10.0)
            told.append("worked")
        finally:
            told.append("cleaned up")

    begin(loop, life, work())
    Timers(loop).after(5.0, setattr, life, "is_gone", True)
    run(loop)
    assert told == []
    assert loop.now == 10.0


def test_who_stood_still_catches_up(loop: VirtualLoop) -> None:
    """A life that stands still does nothing until it wakes; then its timers are overdue."""
    told: list[float] = []
    life = Life()

    async def work() -> None:
        for _ in range(3):
            await asyncio.sleep(1.0)
            told.append(loop.time())

    begin(loop, life, work())
    timers = Timers(loop)
    timers.after(1.5, setattr, life, "held", [])
    timers.after(60.0, loop.wake, life)
    run(loop)
    assert told == [1.0, 60.0, 61.0]


def test_what_does_not_end_is_ended(loop: VirtualLoop) -> None:
    """A run has a bound of virtual time and one of steps."""

    async def work(seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)

    begin(loop, Life(), work(1000.0))
    with pytest.raises(EndlessError, match="not over after 5000 s"):
        loop.run(until=5000.0, steps=10_000)
    begin(loop, Life(), work(0.0))
    with pytest.raises(EndlessError, match="too many steps"):
        loop.run(until=5000.0, steps=10_000)


def test_what_nobody_caught_is_kept(loop: VirtualLoop) -> None:
    """A callback that fails is told, and stops nothing."""
    loop.call_soon(lambda: 1 // 0)
    run(loop)
    assert len(loop.errors) == 1
    assert "ZeroDivisionError" in loop.errors[0]

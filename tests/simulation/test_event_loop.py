"""The virtual clock: it moves, it never waits, and whose code runs is up to its life."""

import asyncio
import contextvars
from collections.abc import Iterator

import pytest

from tests.simulation.world.event_loop import CURRENT_PROCESS, ReplicaProcess, RunTooLongError, Timers, VirtualEventLoop


@pytest.fixture
def loop() -> Iterator[VirtualEventLoop]:
    """A virtual loop, cleaned up."""
    with VirtualEventLoop() as loop:  # type: ignore[abstract] # it has what is used
        yield loop


def begin(loop: VirtualEventLoop, process: ReplicaProcess, coroutine: object) -> None:
    """Start a task that belongs to a life."""
    context = contextvars.copy_context()
    context.run(CURRENT_PROCESS.set, process)
    loop.call_soon(loop.create_task, coroutine, context=context)  # type: ignore[arg-type]


def run(loop: VirtualEventLoop) -> None:
    """Run until nothing is left to do."""
    loop.run(until=1e6, max_callbacks=10_000)


def test_hours_pass_at_once(loop: VirtualEventLoop) -> None:
    """Sleeps and timeouts of asyncio go by the virtual clock."""
    told: list[float] = []

    async def work() -> None:
        await asyncio.sleep(3600.0)
        told.append(loop.time())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60.0):
                await loop.create_future()
        told.append(loop.time())

    begin(loop, ReplicaProcess(), work())
    run(loop)
    assert told == [3600.0, 3660.0]


def test_a_cancelled_timer_moves_no_clock(loop: VirtualEventLoop) -> None:
    """A timeout that was not needed leaves no trace."""

    async def work() -> None:
        async with asyncio.timeout(500.0):
            await asyncio.sleep(1.0)

    begin(loop, ReplicaProcess(), work())
    run(loop)
    assert loop.now == 1.0


def test_the_dead_do_nothing(loop: VirtualEventLoop) -> None:
    """What a life had scheduled never runs once it is gone, not even its cleaning up, until the run is over."""
    told: list[str] = []
    process = ReplicaProcess()

    async def work() -> None:
        try:
            await asyncio.sleep(10.0)
            told.append("worked")
        finally:
            told.append("cleaned up")

    begin(loop, process, work())
    Timers(loop).after(5.0, setattr, process, "has_ended", True)
    run(loop)
    assert told == []
    assert loop.now == 10.0


def test_who_stood_still_catches_up(loop: VirtualEventLoop) -> None:
    """A life that stands still does nothing until it wakes; then its timers are overdue."""
    told: list[float] = []
    process = ReplicaProcess()

    async def work() -> None:
        for _ in range(3):
            await asyncio.sleep(1.0)
            told.append(loop.time())

    begin(loop, process, work())
    timers = Timers(loop)
    timers.after(1.5, setattr, process, "frozen_callbacks", [])
    timers.after(60.0, loop.wake, process)
    run(loop)
    assert told == [1.0, 60.0, 61.0]


def test_what_does_not_end_is_ended(loop: VirtualEventLoop) -> None:
    """A run has a bound of virtual time and one of steps."""

    async def work(seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)

    begin(loop, ReplicaProcess(), work(1000.0))
    with pytest.raises(RunTooLongError, match="not over after 5000 s"):
        loop.run(until=5000.0, max_callbacks=10_000)
    begin(loop, ReplicaProcess(), work(0.0))
    with pytest.raises(RunTooLongError, match="too many callbacks"):
        loop.run(until=5000.0, max_callbacks=10_000)


def test_what_nobody_caught_is_kept(loop: VirtualEventLoop) -> None:
    """A callback that fails is told, and stops nothing."""
    loop.call_soon(lambda: 1 // 0)
    run(loop)
    assert len(loop.errors) == 1
    assert "ZeroDivisionError" in loop.errors[0]

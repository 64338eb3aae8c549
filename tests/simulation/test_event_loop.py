"""Tests of the virtual event loop: clock, frozen and ended processes, bounds."""

import asyncio
import contextvars
from collections.abc import Iterator

import pytest

from tests.simulation.world.event_loop import CURRENT_PROCESS, ReplicaProcess, RunTooLongError, Timers, VirtualEventLoop


@pytest.fixture
def loop() -> Iterator[VirtualEventLoop]:
    """A virtual event loop that is cleaned up."""
    with VirtualEventLoop() as loop:  # type: ignore[abstract] # it has what is used
        yield loop


def start_task(loop: VirtualEventLoop, process: ReplicaProcess, coroutine: object) -> None:
    """Start a task of a process."""
    context = contextvars.copy_context()
    context.run(CURRENT_PROCESS.set, process)
    loop.call_soon(loop.create_task, coroutine, context=context)  # type: ignore[arg-type]


def run(loop: VirtualEventLoop) -> None:
    """Run until no callback is left."""
    loop.run(until=1e6, max_callbacks=10_000)


def test_sleep_of_hours_takes_no_real_time(loop: VirtualEventLoop) -> None:
    """Sleeps and timeouts of asyncio use the virtual clock."""
    events: list[float] = []

    async def work() -> None:
        await asyncio.sleep(3600.0)
        events.append(loop.time())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60.0):
                await loop.create_future()
        events.append(loop.time())

    start_task(loop, ReplicaProcess(), work())
    run(loop)
    assert events == [3600.0, 3660.0]


def test_cancelled_timer_does_not_move_clock(loop: VirtualEventLoop) -> None:
    """A timeout that does not expire has no effect."""

    async def work() -> None:
        async with asyncio.timeout(500.0):
            await asyncio.sleep(1.0)

    start_task(loop, ReplicaProcess(), work())
    run(loop)
    assert loop.now == 1.0


def test_ended_process_runs_no_callback(loop: VirtualEventLoop) -> None:
    """Callbacks of an ended process never run, not even its cleanup."""
    events: list[str] = []
    process = ReplicaProcess()

    async def work() -> None:
        try:
            await asyncio.sleep(10.0)
            events.append("worked")
        finally:
            events.append("cleaned up")

    start_task(loop, process, work())
    Timers(loop).after(5.0, setattr, process, "has_ended", True)
    run(loop)
    assert events == []
    assert loop.now == 10.0


def test_frozen_process_runs_overdue_callbacks_when_it_resumes(loop: VirtualEventLoop) -> None:
    """A frozen process runs nothing until it resumes; then its timers are overdue."""
    events: list[float] = []
    process = ReplicaProcess()

    async def work() -> None:
        for _ in range(3):
            await asyncio.sleep(1.0)
            events.append(loop.time())

    start_task(loop, process, work())
    timers = Timers(loop)
    timers.after(1.5, setattr, process, "frozen_callbacks", [])
    timers.after(60.0, loop.wake, process)
    run(loop)
    assert events == [1.0, 60.0, 61.0]


def test_endless_run_is_stopped_at_its_bounds(loop: VirtualEventLoop) -> None:
    """A run has a bound of virtual time, and one of callbacks."""

    async def work(seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)

    start_task(loop, ReplicaProcess(), work(1000.0))
    with pytest.raises(RunTooLongError, match="not over after 5000 s"):
        loop.run(until=5000.0, max_callbacks=10_000)
    start_task(loop, ReplicaProcess(), work(0.0))
    with pytest.raises(RunTooLongError, match="too many callbacks"):
        loop.run(until=5000.0, max_callbacks=10_000)


def test_uncaught_exception_is_kept_and_loop_goes_on(loop: VirtualEventLoop) -> None:
    """A callback that fails is recorded."""
    loop.call_soon(lambda: 1 // 0)
    run(loop)
    assert len(loop.errors) == 1
    assert "ZeroDivisionError" in loop.errors[0]

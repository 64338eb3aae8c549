"""One timer ends many waits."""

import asyncio

import pytest

from worker.dcs.deadline import Deadline


async def test_what_takes_too_long_ends() -> None:
    """Each wait by its own time, also those that began while others waited."""
    deadline, loop = Deadline(0.1), asyncio.get_running_loop()

    async def wait(begin: float) -> float:
        await asyncio.sleep(begin)
        started = loop.time()
        with pytest.raises(TimeoutError), deadline.kept():
            await asyncio.sleep(10)
        return loop.time() - started

    for took in await asyncio.gather(*(wait(begin) for begin in (0.0, 0.05, 0.07, 0.3))):
        assert 0.09 < took < 2


async def test_what_ends_in_time_is_left_alone() -> None:
    """Its end, an error too, is its own; nothing of it stays."""
    deadline = Deadline(0.02)
    with deadline.kept():
        await asyncio.sleep(0)
    with pytest.raises(ValueError, match="own"), deadline.kept():
        raise ValueError("own")
    await asyncio.sleep(0.05)
    assert repr(deadline) == "<Deadline 0.02 s: 0 wait>"


async def test_who_is_cancelled_from_outside_stays_cancelled() -> None:
    """Even if the time is over in the same moment."""
    deadline = Deadline(0.01)
    endings = []

    async def wait() -> None:
        try:
            with deadline.kept():
                await asyncio.sleep(10)
        except BaseException as error:
            endings.append(type(error))
            raise

    for is_late in (False, True):
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        if is_late:
            (waiting,) = deadline._open
            waiting.expire()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
    assert endings == [asyncio.CancelledError] * 2


async def test_one_timer_serves_all() -> None:
    """It is set again for the oldest that still waits."""
    deadline = Deadline(60)
    waits = [asyncio.create_task(keep(deadline)) for _ in range(3)]
    await asyncio.sleep(0)
    timer = deadline._timer
    assert timer is not None
    assert timer.when() == next(iter(deadline._open)).until
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    assert (deadline._timer, len(deadline._open)) == (timer, 0)
    timer.cancel()


async def keep(deadline: Deadline) -> None:
    """Wait for ever."""
    with deadline.kept():
        await asyncio.Event().wait()

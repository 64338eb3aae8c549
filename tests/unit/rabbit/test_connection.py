"""A lost connection is one exception, and a cancelled task stays cancelled."""

import asyncio

import pytest

from worker.rabbit.connection import ConnectionLostError, connection_loss_as_error


async def waiting(answer: asyncio.Future[None], seconds: float | None = None) -> None:
    """Wait for an answer of the broker, with a deadline if one is given."""
    with connection_loss_as_error():
        async with asyncio.timeout(seconds):
            await answer


async def test_cancellation_that_the_library_made_is_a_lost_connection() -> None:
    """aiormq sets CancelledError on the answer; the task that waits was not cancelled."""
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(waiting(answer))
    await asyncio.sleep(0)
    answer.set_exception(asyncio.CancelledError())
    with pytest.raises(ConnectionLostError, match="the connection is stuck"):
        await task


async def test_cancelled_task_stays_cancelled() -> None:
    """A worker that stops is not kept by its own cancellation."""
    task = asyncio.create_task(waiting(asyncio.get_running_loop().create_future()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_deadline_stays_a_deadline() -> None:
    """asyncio.timeout cancels the task, too."""
    with pytest.raises(TimeoutError):
        await waiting(asyncio.get_running_loop().create_future(), 0.0)


async def test_bare_exception_is_a_lost_connection_and_any_other_is_itself() -> None:
    """aiormq rejects what waits with `Exception` where it knows no reason."""
    for error, expected in ((Exception(), ConnectionLostError), (ValueError("x"), ValueError)):
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answer.set_exception(error)
        with pytest.raises(expected):
            await waiting(answer)

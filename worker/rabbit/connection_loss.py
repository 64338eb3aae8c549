"""Losses of the connection to the broker as one exception.

A connection that gets stuck (no frame for three heartbeats) sets CancelledError on everything that waits for an
answer, though the task that waits was not cancelled; `except Exception` misses it, and the task would just end as
cancelled. A channel that is closed without a reason raises a bare `Exception`.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class ConnectionLostError(ConnectionError):
    """The connection to the broker was lost before it answered."""


@contextmanager
def connection_loss_as_error() -> Iterator[None]:
    """Raise ConnectionLostError for a loss that comes in another form. A cancellation of this task stays one."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ConnectionLostError("the connection is stuck") from None
    except Exception as error:
        if type(error) is Exception:
            raise ConnectionLostError("the channel was closed") from None
        raise

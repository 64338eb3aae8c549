"""Probe of a quorum queue: whether the queue itself answers, which needs a majority of its nodes.

One node alone accepts connections and channels and answers passive declares. Without a majority of the queue's nodes,
consume, get and publish wait without an end (https://www.rabbitmq.com/docs/quorum-queues).
"""

import asyncio
import time
from typing import Final

from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from worker.rabbit.connection import channel_below, connection_loss_as_error

QUIET_SECONDS: Final = 6.0
"""Time without a delivery and without an answer, after which the queue is asked."""
ANSWER_TIMEOUT_SECONDS: Final = 10.0
"""A new leader is elected within this time after its node was lost."""


def silence_reason(queue: str) -> str:
    """What is wrong with a queue that does not answer, in words."""
    found = (
        f"queue {queue!r} does not answer although the broker does: its leader or most of its nodes are down or frozen"
    )
    return f"{found}; start the missing nodes of the broker"


class QueueProbe:
    """Gets a message from a queue that has been quiet; to be asked only while the queue must be empty.

    One question at a time, on a separate channel: the broker handles nothing else of a channel until it is answered.
    """

    def __init__(self, connection: AbstractConnection, queue: str) -> None:
        self._connection = connection
        self._queue = queue
        self._channel: AbstractChannel | None = None
        self._asking: asyncio.Task[None] | None = None
        self._asked_at: float | None = None
        self.heard_at = time.monotonic()
        """When the queue delivered a message, or answered, last."""

    def __repr__(self) -> str:
        return f"<QueueProbe {self._queue}: {'answering' if self.is_answering else 'silent'}>"

    @property
    def is_answering(self) -> bool:
        """False once a question has been open for ANSWER_TIMEOUT_SECONDS without a delivery."""
        if self._asked_at is None:
            return True
        return time.monotonic() - max(self._asked_at, self.heard_at) < ANSWER_TIMEOUT_SECONDS

    @property
    def is_due(self) -> bool:
        """Whether the queue has been quiet for QUIET_SECONDS and no question is open."""
        return self._asking is None and time.monotonic() - self.heard_at >= QUIET_SECONDS

    def ask(self) -> None:
        """Ask the queue. A question that failed stays open until another one is answered."""
        self._asked_at = self._asked_at or time.monotonic()
        self._asking = asyncio.get_running_loop().create_task(self._ask())

    async def aclose(self) -> None:
        """Abandon the open question."""
        if (asking := self._asking) is not None:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        self._asked_at = None

    async def _ask(self) -> None:
        try:
            with connection_loss_as_error():
                if self._channel is None or self._channel.is_closed:
                    self._channel = await channel_below(self._connection)
                message = await self._channel.basic_get(self._queue)
                if isinstance(message.delivery, Basic.GetOk):
                    await self._channel.basic_nack(message.delivery.delivery_tag or 0, requeue=True)
        except Exception:  # noqa: BLE001 - for any failure the remedy is the next question, on a new channel
            self._channel = None
        else:
            self._asked_at, self.heard_at = None, time.monotonic()
        finally:
            self._asking = None

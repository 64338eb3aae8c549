"""Locks of repeated requests: exclusive queues, declared by one connection, refused to every other, gone with it.

They belong to the consuming connection, so a lock is lost exactly when the deliveries are
(https://www.rabbitmq.com/docs/queues#exclusive-queues).
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource

from worker.rabbit.connection import channel_below, connection_loss_as_error

ANSWER_TIMEOUT_SECONDS: Final = 3.0
"""For one attempt. An exclusive queue lives on the node that the connection leads to, so no other has a part in it."""
ATTEMPTS: Final = 3
TURN_TIMEOUT_SECONDS: Final = 10.0
"""For a whole operation, with its wait for those before it."""

_Ask = Callable[[AbstractChannel], Awaitable[object]]
_REFUSALS: Final = (ChannelLockedResource, ChannelAccessRefused)


class BrokerLocks:
    """Locks for requests of the queue `queue`, while there is a session. Nothing raises."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._channel: _LockChannel | None = None

    def __repr__(self) -> str:
        return f"<BrokerLocks: {'usable' if self._channel else 'away'}>"

    @contextmanager
    def session(self, connection: AbstractConnection) -> Iterator[None]:
        """Lock through `connection`, by which deliveries come, for as long as the context lasts."""
        self._channel = _LockChannel(connection)
        try:
            yield
        finally:
            self._channel = None

    async def take(self, key: tuple[str, str]) -> bool:
        """Whether the lock is ours. False also where that is unknown; True for a user who may not declare locks."""
        if self._channel is None:
            return False
        name = self._name(key)
        answer = await self._channel.answer(lambda channel: channel.queue_declare(name, exclusive=True))
        return isinstance(answer, ChannelAccessRefused) or not isinstance(answer, Exception)

    async def free(self, key: tuple[str, str]) -> None:
        """Give the lock back; without an answer it is gone with its connection at the latest."""
        if self._channel is None:
            return
        name = self._name(key)
        await self._channel.answer(lambda channel: channel.queue_delete(name))

    def _name(self, key: tuple[str, str]) -> str:
        return f"{self._queue}.lock.{hashlib.sha256('/'.join(key).encode()).hexdigest()[:32]}"


class _LockChannel:
    """One channel for all the locks of a session, opened when it is needed.

    Operations are serial, for a refusal closes the channel and fails every other declare that waits on it. One whose
    answer did not come is asked again, on a new channel if need be: what a connection has declared, it may declare
    again.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._channel: AbstractChannel | None = None
        self._turn = asyncio.Lock()

    async def answer(self, ask: _Ask) -> object:
        """What the broker answers; its refusal, or why there is no answer, as a value."""
        answer: object = None
        try:
            async with asyncio.timeout(TURN_TIMEOUT_SECONDS), self._turn:
                for _ in range(ATTEMPTS):
                    answer = await self._attempt(ask)
                    if isinstance(answer, _REFUSALS) or not isinstance(answer, Exception):
                        break
        except TimeoutError as error:
            return error
        return answer

    async def _attempt(self, ask: _Ask) -> object:
        try:
            with connection_loss_as_error():
                async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                    if self._channel is None or self._channel.is_closed:
                        self._channel = await channel_below(self._connection)
                    return await ask(self._channel)
        except Exception as error:  # noqa: BLE001 - any failure: the next attempt has a new channel
            self._channel = None
            return error

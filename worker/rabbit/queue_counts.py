"""Counts of ready messages in the worker's queues, asked of the broker at an interval by passive declares.

On a separate channel: a refusal closes the channel, and a queue without a majority of its nodes does not answer.
The broker counts ready messages only: while an operator's command holds the parked requests, it counts none.
A queue that was deleted is declared anew; without the right to do so it stays in `missing`.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelNotFoundEntity

from schemas import names
from worker.rabbit.connection import channel_below, connection_loss_as_error
from worker.rabbit.connection_supervisor import Session
from worker.rabbit.topology import Topology, declare_queues

INTERVAL_SECONDS: Final = 5.0
ANSWER_TIMEOUT_SECONDS: Final = 3.0


class QueueCounts:
    """Ready messages by kind of queue: `requests`, `retry` and `follow_up` (each: all queues together), `parked`."""

    def __init__(
        self,
        topology: Topology,
        on_missing: Callable[[Collection[str]], None],
        *,
        interval: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.messages: Mapping[str, int] = {}
        """A kind is absent while its count is unknown."""
        self.missing: frozenset[str] = frozenset()
        """Queues that do not exist, as last seen."""
        self.parked_since: float | None = None
        """When parked requests were first counted, in epoch seconds; None since the parked queue was seen empty."""
        self._queues: Mapping[str, Iterable[str]] = {
            "requests": [topology.requests_queue],
            "retry": list(dict.fromkeys(topology.retry_queues)),
            "parked": [names.parked_queue(topology.requests_queue)],
        }
        if topology.follow_up_queues:
            self._queues = {**self._queues, "follow_up": topology.follow_up_queues}
        self._topology = topology
        self._on_missing = on_missing
        self._interval = interval
        self._clock = clock
        self._channel: AbstractChannel | None = None

    def __repr__(self) -> str:
        return f"<QueueCounts: {dict(self.messages)}>"

    @property
    def parked_seconds(self) -> float | None:
        """How long requests have been parked, 0 if none are; None while that is unknown."""
        if self.parked_since is not None:
            return max(0.0, self._clock() - self.parked_since)
        return 0.0 if "parked" in self.messages else None

    def during(self, session: Session) -> Session:
        """`session`, with counts on its connection once it works; afterwards they are unknown."""

        async def counted(connection: AbstractConnection, up: Callable[[], None]) -> str:
            tasks: list[asyncio.Task[None]] = []

            def started() -> None:
                up()
                tasks.append(asyncio.create_task(self._run(connection)))  # not before the session has declared all

            try:
                return await session(connection, started)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self.messages, self.missing, self._channel = {}, frozenset(), None

        return counted

    async def _run(self, connection: AbstractConnection) -> None:
        while True:
            messages: dict[str, int] = {}
            missing: set[str] = set()
            for kind, queues in self._queues.items():
                counts = [await self._count(connection, queue, missing) for queue in queues]
                ready = [count[0] for count in counts if count is not None]
                if len(ready) == len(counts):
                    messages[kind] = sum(ready)
                if kind == "parked" and counts[0] is not None:
                    self._note_parked(*counts[0])
            self.messages = messages
            await self._note_missing(connection, frozenset(missing))
            await asyncio.sleep(self._interval)

    async def _note_missing(self, connection: AbstractConnection, missing: frozenset[str]) -> None:
        if missing - self.missing:
            self._on_missing(sorted(missing))
        self.missing = missing
        if missing:
            with suppress(Exception), connection_loss_as_error():  # refused: they stay missing
                gone = tuple(queue for queue in self._topology.queues if queue.name in missing)
                await declare_queues(connection, replace(self._topology, exchanges=(), queues=gone))

    async def _count(self, connection: AbstractConnection, queue: str, missing: set[str]) -> tuple[int, int] | None:
        """Ready messages and consumers of `queue`; None if the broker does not say, or says that it is missing."""
        try:
            with connection_loss_as_error():
                async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                    if self._channel is None or self._channel.is_closed:
                        self._channel = await channel_below(connection)
                    answer = await self._channel.queue_declare(queue, passive=True)
        except Exception as error:  # noqa: BLE001 - refused, missing, silent: unknown; the next question has a new channel
            if isinstance(error, ChannelNotFoundEntity):
                missing.add(queue)
            self._channel = None
            return None
        return answer.message_count or 0, answer.consumer_count or 0

    def _note_parked(self, ready: int, consumers: int) -> None:
        if ready and self.parked_since is None:
            self.parked_since = self._clock()
        if not ready and not consumers:  # else a command holds what is parked
            self.parked_since = None

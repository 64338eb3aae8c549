"""Publisher of events, and of copies of requests to the retry, parked and requests queues; each publish is confirmed.

Law confirm-then-ack: a publish that must reach a queue is mandatory and a return is an error. Copies are; the events
exchange may have no queue bound to it, and a reply may go to a queue that does not exist any more.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import DeliveryError, PublishError
from pamqp.commands import Basic

from schemas import event as events
from schemas import names
from worker.policy.call_result import UnconfirmedError
from worker.policy.follow_up import ProvisioningEvent
from worker.policy.outcome import Completed
from worker.rabbit.connection import is_blocked, open_channel
from worker.rabbit.copies import CopyPublisher, Original
from worker.rabbit.failure_reasons import CHANNEL_CLOSED, closing_reason, reason_in_words
from worker.rabbit.on_demand import CLOSED_ERRORS, NOT_ALLOWED_ERRORS, ClosedError, OnDemandConnection
from worker.rabbit.publishing import (
    MAX_HEADERS_BYTES,
    PERSISTENT,
    PUBLISH_TIMEOUT_SECONDS,
    ConfirmChannel,
    RefusedError,
)
from worker.rabbit.replies import ReplyPublisher
from worker.rabbit.topology import Topology, declare_queues

BLOCKED_CHECK_INTERVAL_SECONDS: Final = 0.5
STARVED_SECONDS: Final = 30.0
"""After an unconfirmed publish no session counts as up until the next confirm, or for this time: longer than the time
between two tries of an outcome in hand."""
MAX_HEX_CHARACTERS: Final = 254
"""Whole bytes in a short string of AMQP, which holds 255."""


class PublisherObserver(Protocol):
    """Receives what became of publishes."""

    def published(self, type_: str, seconds: float) -> None:
        """An event was confirmed."""

    def blocked(self, is_blocked: bool) -> None:
        """The broker blocks, or no longer blocks, the publishing connection."""


class RabbitPublisher:
    """Publishes on the channel of the current session; waits for one up to PUBLISH_TIMEOUT_SECONDS."""

    def __init__(
        self,
        queue: str,
        event_exchange: str,
        topology: Topology,
        observer: PublisherObserver,
        replies: ReplyPublisher,
        isolated: OnDemandConnection,
        *,
        on_blocked: Callable[[bool], None],
        on_stuck: Callable[[Sequence[str]], None],
    ) -> None:
        self._queue = queue
        self._event_exchange = event_exchange
        self._topology = topology
        self._observer = observer
        self._replies = replies
        publish_copy = partial(self._publish, mandatory=True)
        self._copies = CopyPublisher(publish_copy, isolated, on_stuck=on_stuck, on_cured=self._mark_worn)
        self._is_worn = self._has_refused_event = False
        self._refused_types = set[str]()
        self._unconfirmed_at = -math.inf
        self._on_blocked = on_blocked
        self._channel: ConfirmChannel | None = None
        """For events."""
        self._copy_channel: ConfirmChannel | None = None
        """For copies, which may make the broker close their channel."""
        self._usable = asyncio.Event()
        self._broken: asyncio.Future[str] | None = None
        self._own_queues = frozenset(queue.name for queue in topology.queues)
        self.is_blocked = False

    def __repr__(self) -> str:
        return f"<RabbitPublisher: {'usable' if self._usable.is_set() else 'blocked' if self.is_blocked else 'away'}>"

    async def event(
        self,
        ending: Completed | ProvisioningEvent,
        *,
        correlation_id: str | None,
        reply_to: str | None,
        trace: Mapping[str, object],
    ) -> None:
        """Publish the event to the events exchange, and to `reply_to` if given. Raises UnconfirmedError."""
        type_ = ending.EVENT_TYPES[ending.succeeded]
        headers: dict[str, object] = dict(
            events.headers(id_=ending.event_id, type_=type_, subject=ending.subject, time=ending.completed_at)
        )
        if ending.journal:
            headers[names.JOURNAL] = ending.journal
        if ending.is_repeated:
            headers[names.REPEATED] = True
        properties = Basic.Properties(
            content_type=names.JSON,
            headers={**headers, **trace},  # type: ignore[dict-item]  # they came off the wire
            delivery_mode=PERSISTENT,
            correlation_id=_readable(correlation_id),
            message_id=ending.event_id,
            message_type=type_,
        )
        started = time.perf_counter()
        try:
            await self._publish(ending.body, properties, events.KEYS[type_], exchange=self._event_exchange)
        except RefusedError:
            self._has_refused_event = True
            self._refused_types.add(type_)
            self._copies.set_stuck(self._readers_queue(type_), is_stuck=True)
            raise
        if type_ in self._refused_types:
            self._refused_types.discard(type_)
            self._copies.set_stuck(self._readers_queue(type_), is_stuck=False)
        self._observer.published(type_, time.perf_counter() - started)
        if reply_to is None or self._is_own_queue(reply_to):
            return
        await self._replies.publish(ending.body, properties, reply_to)

    def _readers_queue(self, type_: str) -> str:
        return f"one that is bound to exchange {self._event_exchange!r} with key {events.KEYS[type_]!r}"

    def _is_own_queue(self, name: str) -> bool:
        """Whether a worker would take a message in this queue for a copy of a request, its state headers included."""
        own_names = (f"{self._queue}{names.RETRY_INFIX}", names.follow_up_queue(self._queue))
        return name in self._own_queues or name.startswith(own_names)

    async def watch(
        self, body: bytes, checks: int, headers: Mapping[str, object], *, correlation_id: str | None
    ) -> None:
        """Put a watch into its queue, or into the next one that takes it. Raises UnconfirmedError."""
        properties = Basic.Properties(
            content_type=names.JSON, delivery_mode=PERSISTENT, correlation_id=_readable(correlation_id)
        )
        queues = (names.follow_up_queue(self._queue, later) for later in range(checks, len(names.FOLLOW_UP_DELAYS)))
        last = names.follow_up_queue(self._queue, checks)
        await self._copy(_Message(body, properties), headers, *queues, last)

    async def publish_to_retry_queue(self, delivery: Original, retry_level: int, headers: Mapping[str, object]) -> None:
        """Put a copy into the retry queue of that level, or the next one that takes it. Raises UnconfirmedError."""
        await self._copy(delivery, headers, *self._topology.retry_queues[retry_level - 1 :])

    async def park(self, delivery: Original, headers: Mapping[str, object]) -> None:
        """Put a copy into the parked queue. Raises UnconfirmedError, and UncopyableError for a released body."""
        await self._copy(delivery, headers, names.parked_queue(self._queue))

    async def hand_back(self, delivery: Original, headers: Mapping[str, object]) -> None:
        """Put a copy at the end of the requests queue. Raises UnconfirmedError."""
        await self._copy(delivery, headers, self._queue)

    async def session(self, connection: AbstractConnection, up: Callable[[], None]) -> str:
        """Be usable on `connection` until its channel is doubtful; the reason. Raises what aio-pika raises."""
        await declare_queues(connection, self._topology)
        async with AsyncExitStack() as event_channel, AsyncExitStack() as copies:
            broken: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            self._broken = broken
            await self._open_copy_channel(connection, copies)
            await self._open_event_channel(connection, event_channel)
            self._usable.set()
            is_up = False
            try:
                while not broken.done():
                    if not is_up and time.monotonic() - self._unconfirmed_at > STARVED_SECONDS:
                        is_up = True
                        up()
                    await asyncio.wait((broken,), timeout=BLOCKED_CHECK_INTERVAL_SECONDS)
                    self._block(await is_blocked(connection))
                    self._copies.forget_old()
                    if broken.done() or self.is_blocked:  # the broker would not answer on a blocked connection
                        continue
                    if self._is_worn:
                        await self._open_copy_channel(connection, copies)
                    if self._has_refused_event:
                        await self._open_event_channel(connection, event_channel)
                return broken.result()
            finally:
                self._channel = self._copy_channel = None
                self._usable.clear()
                self._block(False)

    async def _open_copy_channel(self, connection: AbstractConnection, opened: AsyncExitStack) -> None:
        """Open another channel for copies. What is under way on the old one is published again, alone."""
        await opened.aclose()
        channel = await opened.enter_async_context(open_channel(connection, confirms=True))
        channel.closing.add_done_callback(lambda _: self._mark_worn())
        self._copy_channel = ConfirmChannel(channel, timeout_seconds=PUBLISH_TIMEOUT_SECONDS)
        self._is_worn = False

    async def _open_event_channel(self, connection: AbstractConnection, opened: AsyncExitStack) -> None:
        """Open another channel for events: RabbitMQ 3.10 goes on refusing on one what the queues take by now.

        What is under way on the old one is published again by the settler.
        """
        old, self._has_refused_event = opened.pop_all(), False
        channel = await opened.enter_async_context(open_channel(connection, confirms=True))
        confirming = ConfirmChannel(channel, timeout_seconds=PUBLISH_TIMEOUT_SECONDS)

        def on_closed(closed: asyncio.Future[object]) -> None:
            if self._channel is confirming:
                self._break(closing_reason(closed))

        channel.closing.add_done_callback(on_closed)
        self._channel = confirming
        await old.aclose()

    def _block(self, is_blocked: bool) -> None:
        if is_blocked == self.is_blocked:
            return
        self.is_blocked = is_blocked
        if is_blocked:
            self._usable.clear()
        elif self._channel is not None:
            self._usable.set()
        self._observer.blocked(is_blocked)
        self._on_blocked(is_blocked)

    def _break(self, reason: str) -> None:
        if self._broken is not None and not self._broken.done():
            self._broken.set_result(reason)

    async def _copy(self, delivery: Original, headers: Mapping[str, object], *queues: str) -> None:
        max_headers_bytes = self._copy_channel.max_headers_bytes if self._copy_channel else MAX_HEADERS_BYTES
        await self._copies.copy(delivery, headers, queues, max_headers_bytes)

    def _mark_worn(self) -> None:
        self._is_worn = True

    async def _usable_channel(self, *, is_copy: bool) -> ConfirmChannel:
        if not self._usable.is_set():
            async with asyncio.timeout(PUBLISH_TIMEOUT_SECONDS):
                await self._usable.wait()
        channel = self._copy_channel if is_copy else self._channel
        if channel is None:
            raise ConnectionError(CHANNEL_CLOSED)
        return channel

    async def _publish(
        self,
        body: bytes,
        properties: Basic.Properties,
        routing_key: str,
        *,
        exchange: str = "",
        mandatory: bool = False,
    ) -> None:
        """Publish one message and wait for its confirm. Raises UnconfirmedError, of it RefusedError and ClosedError."""
        try:
            channel = await self._usable_channel(is_copy=mandatory)
            await channel.publish(body, properties, exchange=exchange, routing_key=routing_key, mandatory=mandatory)
            self._unconfirmed_at = -math.inf
        except TimeoutError:
            if self._usable.is_set():  # else the broker was away or blocked all the time
                self._unconfirmed_at = time.monotonic()
                self._break(f"a publish was not confirmed within {PUBLISH_TIMEOUT_SECONDS:g} s")
            raise UnconfirmedError(f"no confirm within {PUBLISH_TIMEOUT_SECONDS:g} s") from None
        except PublishError:
            self._break(f"queue {routing_key!r} does not exist")
            raise UnconfirmedError(f"queue {routing_key!r} does not exist") from None
        except DeliveryError:
            raise RefusedError(f"the broker refused a message for {routing_key!r}") from None
        except NOT_ALLOWED_ERRORS as error:
            raise UnconfirmedError(reason_in_words(error)) from error
        except CLOSED_ERRORS as error:
            raise ClosedError(reason_in_words(error)) from error


@dataclass(frozen=True, slots=True)
class _Message:
    """A message of the worker that is published like a copy: mandatory, to a queue."""

    body: bytes
    properties: Basic.Properties


def _readable(correlation_id: str | None) -> str | None:
    """The correlation id of an event: in UTF-8, for other bytes end the connection of many a consumer.

    Other bytes are written in hexadecimal, as many as there is room for.
    """
    try:
        (correlation_id or "").encode()
    except UnicodeEncodeError:
        return (correlation_id or "").encode("utf-8", "surrogateescape").hex()[:MAX_HEX_CHARACTERS]
    return correlation_id

"""Publisher of events, and of copies of requests to the retry, parked and requests queues; each publish is confirmed.

Law confirm-then-ack: a publish that must reach a queue is mandatory and a return is an error. Copies are; the events
exchange may have no queue bound to it, and a reply may go to a queue that does not exist any more.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import AMQPError, DeliveryError, PublishError
from pamqp.commands import Basic

from schemas import event as events
from schemas import names
from worker.policy.call_result import UnconfirmedError
from worker.policy.outcome import Completed
from worker.rabbit.connection import open_channel
from worker.rabbit.publishing import PERSISTENT, ConfirmChannel, copy_properties
from worker.rabbit.replies import ReplyPublisher
from worker.rabbit.topology import Topology, declare

PUBLISH_TIMEOUT_SECONDS: Final = 10.0
BLOCKED_CHECK_INTERVAL_SECONDS: Final = 0.5
MAX_HEX_CHARACTERS: Final = 254
"""Whole bytes in a short string of AMQP, which holds 255."""


class Original(Protocol):
    """A delivery to be copied."""

    @property
    def body(self) -> bytes:
        """The message body."""

    @property
    def properties(self) -> Basic.Properties:
        """The message properties as they came."""


class PublisherObserver(Protocol):
    """Receives what became of publishes."""

    def published(self, type_: str, seconds: float) -> None:
        """An event was confirmed."""

    def blocked(self, is_blocked: bool) -> None:
        """The broker blocks, or no longer blocks, the publishing connection."""

    def reply_refused(self, event_id: str) -> None:
        """The address that a request names for its answer does not take it."""


class _RefusedError(UnconfirmedError):
    """A queue that the message reached did not take it."""


class RabbitPublisher:
    """Publishes on the channel of the current session; waits for one up to PUBLISH_TIMEOUT_SECONDS."""

    def __init__(
        self,
        queue: str,
        event_exchange: str,
        topology: Topology,
        observer: PublisherObserver,
        replies: ReplyPublisher,
        *,
        on_blocked: Callable[[bool], None],
    ) -> None:
        self._queue = queue
        self._event_exchange = event_exchange
        self._topology = topology
        self._observer = observer
        self._replies = replies
        self._on_blocked = on_blocked
        self._channel: ConfirmChannel | None = None
        self._usable = asyncio.Event()
        self._broken: asyncio.Future[str] | None = None
        self._own_queues = frozenset(queue.name for queue in topology.queues)
        self.is_blocked = False

    def __repr__(self) -> str:
        return f"<RabbitPublisher: {'usable' if self._usable.is_set() else 'blocked' if self.is_blocked else 'away'}>"

    async def event(
        self, ending: Completed, *, correlation_id: str | None, reply_to: str | None, trace: Mapping[str, object]
    ) -> None:
        """Publish the event to the events exchange, and to `reply_to` if given. Raises UnconfirmedError."""
        type_ = events.SUCCEEDED_TYPE if ending.succeeded else events.FAILED_TYPE
        headers = events.headers(id_=ending.event_id, type_=type_, subject=ending.subject, time=ending.completed_at)
        if ending.journal:
            headers[names.JOURNAL] = ending.journal
        properties = Basic.Properties(
            content_type=names.JSON,
            headers={**headers, **trace},  # type: ignore[dict-item]  # they came off the wire
            delivery_mode=PERSISTENT,
            correlation_id=_readable(correlation_id),
            message_id=ending.event_id,
            message_type=type_,
        )
        started = time.perf_counter()
        key = events.SUCCEEDED_KEY if ending.succeeded else events.FAILED_KEY
        await self._publish(ending.body, properties, exchange=self._event_exchange, routing_key=key)
        self._observer.published(type_, time.perf_counter() - started)
        if reply_to is None or self._is_own_queue(reply_to):
            return
        if not await self._replies.publish(ending.body, properties, reply_to):
            self._observer.reply_refused(ending.event_id)

    def _is_own_queue(self, name: str) -> bool:
        """Whether a worker would take a message in this queue for a copy of a request, its state headers included."""
        return name in self._own_queues or name.startswith(f"{self._queue}{names.RETRY_INFIX}")

    async def postpone(self, delivery: Original, retry_level: int, headers: Mapping[str, object]) -> None:
        """Put a copy into the retry queue of that level. Raises UnconfirmedError."""
        await self._copy(delivery, headers, self._topology.retry_queues[retry_level - 1])

    async def park(self, delivery: Original, headers: Mapping[str, object]) -> None:
        """Put a copy into the parked queue. Raises UnconfirmedError."""
        await self._copy(delivery, headers, names.parked_queue(self._queue))

    async def hand_back(self, delivery: Original, headers: Mapping[str, object]) -> None:
        """Put a copy at the end of the requests queue. Raises UnconfirmedError."""
        await self._copy(delivery, headers, self._queue)

    async def session(self, connection: AbstractConnection, up: Callable[[], None]) -> str:
        """Be usable on `connection` until its channel is doubtful; the reason. Raises what aio-pika raises."""
        await declare(connection, self._topology)
        async with open_channel(connection, confirms=True) as channel:
            broken = self._broken = asyncio.get_running_loop().create_future()
            channel.closing.add_done_callback(lambda _: self._break("the channel was closed"))
            self._channel = ConfirmChannel(channel, timeout_seconds=PUBLISH_TIMEOUT_SECONDS)
            self._usable.set()
            up()
            try:
                return await self._watch(connection, broken)
            finally:
                self._channel = None
                self._usable.clear()
                self._block(False)

    async def _watch(self, connection: AbstractConnection, broken: asyncio.Future[str]) -> str:
        while not broken.done():
            await asyncio.wait((broken,), timeout=BLOCKED_CHECK_INTERVAL_SECONDS)
            self._block(await _is_blocked(connection))
        return broken.result()

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

    async def _copy(self, delivery: Original, headers: Mapping[str, object], queue: str) -> None:
        properties = copy_properties(delivery.properties, headers)
        await self._publish(delivery.body, properties, routing_key=queue, mandatory=True)

    async def _usable_channel(self) -> ConfirmChannel:
        if self._channel is not None and self._usable.is_set():
            return self._channel
        async with asyncio.timeout(PUBLISH_TIMEOUT_SECONDS):
            while self._channel is None or not self._usable.is_set():
                await self._usable.wait()
            return self._channel

    async def _publish(
        self,
        body: bytes,
        properties: Basic.Properties,
        *,
        exchange: str = "",
        routing_key: str,
        mandatory: bool = False,
    ) -> None:
        """Publish one message and wait for its confirm. Raises UnconfirmedError."""
        try:
            channel = await self._usable_channel()
            await channel.publish(body, properties, exchange=exchange, routing_key=routing_key, mandatory=mandatory)
        except TimeoutError:
            if not self.is_blocked:
                self._break("a publish was not confirmed in time")
            raise UnconfirmedError(f"no confirm within {PUBLISH_TIMEOUT_SECONDS:g} s") from None
        except PublishError:
            self._break(f"queue {routing_key!r} does not exist")
            raise UnconfirmedError(f"queue {routing_key!r} does not exist") from None
        except DeliveryError:
            raise _RefusedError(f"the broker refused a message for {routing_key!r}") from None
        except (AMQPError, ConnectionError, RuntimeError) as error:
            raise UnconfirmedError(f"{type(error).__name__}: {error}"[:300]) from error


def _readable(correlation_id: str | None) -> str | None:
    """The correlation id of an event: in UTF-8, for other bytes end the connection of many a consumer.

    Other bytes are written in hexadecimal, as many as there is room for.
    """
    try:
        (correlation_id or "").encode()
    except UnicodeEncodeError:
        return (correlation_id or "").encode("utf-8", "surrogateescape").hex()[:MAX_HEX_CHARACTERS]
    return correlation_id


async def _is_blocked(connection: AbstractConnection) -> bool:
    """Whether the broker blocks the connection: aiormq only logs it, but lets one wait for the end of it."""
    transport = connection.transport
    if transport is None:
        return False
    try:
        async with asyncio.timeout(0):
            await transport.ready()
    except TimeoutError:
        return True
    return False

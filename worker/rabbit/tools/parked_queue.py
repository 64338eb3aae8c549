"""The parked queue, for operators' commands: read, moved back to the requests, dropped; no message is ever lost.

AMQP has no reading without taking: what is read is held by this process, and goes back with its channel, so also
when the process dies. A held message costs this process no memory, so the queue may be of any length.

The broker counts every such return, and RabbitMQ 4.0 and newer drop a message of a quorum queue that was returned more
than 20 times (https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling): for a parked one, without a trace.
So a message that comes near that is renewed as soon as it is read: copied to the end of the queue, confirmed,
acknowledged. The copy is counted from zero, on every version.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from sys import intern
from typing import Any, Final, Self

from aio_pika.abc import AbstractConnection
from aiormq import Channel
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, DeliveryError
from pamqp.commands import Basic

from schemas import names
from schemas.envelope import is_parked_by_sender
from worker.rabbit.connection import RPC_TIMEOUT_SECONDS, open_channel
from worker.rabbit.copies import is_written_by_worker
from worker.rabbit.publishing import ConfirmChannel, copy_properties
from worker.rabbit.tools.broker_access import CONFIRM_TIMEOUT_SECONDS, BrokerError, refusal
from worker.rabbit.tools.event_stream import EventStream, open_event_stream

RENEWED_AT_RETURNS: Final = 10
"""Half of the returns that RabbitMQ 4.0 lets pass; the rest is for killed processes."""
READ_AHEAD: Final = 256
"""Messages that the broker hands over ahead of their reader, and that are renewed at once. So much is in memory."""
DELIVERY_TIMEOUT_SECONDS: Final = 30.0
"""For a delivery of what the broker counted."""
OTHER_READER_TIMEOUT_SECONDS: Final = 5.0
"""For another reader to end: one that was killed is still counted for a moment."""
RETURN_TIMEOUT_SECONDS: Final = 30.0
"""For the broker to count again what was given back: tens of thousands take it a while."""
COUNT_INTERVAL_SECONDS: Final = 0.1
HARMLESS: Final = "This does no harm: a request has one task."
_LOST: Final = (
    "The connection to the broker was lost: what this command held is parked again, also some of what it moved or "
    f"deleted last. {HARMLESS}"
)


class ParkedQueueInUseError(BrokerError):
    """Another command holds the parked requests."""


@dataclass(frozen=True, slots=True)
class ParkedMessage:
    """One message of the parked queue; without a delivery tag it is not held, only known."""

    body: bytes
    properties: Basic.Properties
    tag: int = 0
    needs_renewal: bool = False
    """It was returned so often that the broker may soon drop it."""

    @classmethod
    def of(cls, message: DeliveredMessage) -> Self:
        """The message as it was delivered."""
        assert message.delivery_tag is not None
        properties = message.header.properties
        # Without the flag the count is the sender's word.
        count = (properties.headers or {}).get(names.DELIVERY_COUNT) if message.redelivered else 0
        needs_renewal = isinstance(count, int) and count >= RENEWED_AT_RETURNS
        return cls(message.body, properties, message.delivery_tag, needs_renewal)

    def without_journal(self) -> Self:
        """What identity, reason and state are read from: to keep many messages in memory."""
        headers: Any = {intern(name): value for name, value in self.headers.items() if name != names.JOURNAL}
        kept = Basic.Properties(
            headers=headers,
            message_id=self.properties.message_id,
            content_encoding=self.properties.content_encoding,
        )
        return type(self)(self.body, kept)

    @property
    def headers(self) -> Mapping[str, object]:
        """Message headers; empty if there are none."""
        return self.properties.headers or {}

    @property
    def attributes(self) -> dict[str, object]:
        """The other properties that are set, by name."""
        given = ((name, getattr(self.properties, name)) for name in self.properties.attributes() if name != "headers")
        return {name: value for name, value in given if value not in (None, "")}


class ParkedQueue:
    """The parked queue of the requests queue `queue`; `copies` is a channel with confirms."""

    def __init__(self, queue: str, connection: AbstractConnection, channel: Channel, copies: Channel) -> None:
        self._requests = queue
        self._queue = names.parked_queue(queue)
        self._connection = connection
        self._channel = channel
        self._copies = ConfirmChannel(copies, timeout_seconds=CONFIRM_TIMEOUT_SECONDS)
        self._arrived: asyncio.Queue[DeliveredMessage | None] = asyncio.Queue()
        self._held = self._consumers = 0
        self.count = self.position = 0
        """Messages that were in the queue at first, and how many of them were read."""
        self._has_dropped = self._is_released = self.is_move_unfinished = False

    def __repr__(self) -> str:
        return f"<ParkedQueue {self._queue}: {self._held} held>"

    async def open(self) -> None:
        """Count what is in the queue, once no other command reads it, and begin to read. Raises BrokerError."""
        self._channel.closing.add_done_callback(self._on_lost)
        self._channel.on_consumer_cancel_callbacks.add(self._on_lost)
        with self._refusals():
            self.count = await self._count_when_alone(OTHER_READER_TIMEOUT_SECONDS)
            await self._channel.basic_qos(prefetch_count=READ_AHEAD, timeout=RPC_TIMEOUT_SECONDS)
            if self.count:
                await self._add_consumer()
                await self._count_when_alone(0.0)  # another one may have counted in the same moment

    async def read(self) -> AsyncIterator[list[ParkedMessage]]:
        """The `count` messages, a few at a time, each held until it is dropped; roughly the oldest first.

        Raises BrokerError.
        """
        while self.position < self.count:
            messages = [ParkedMessage.of(message) for message in await self._next()]
            # A renewed one comes again, from the end of the queue.
            renewals = (self._renew(message) for message in messages if message.needs_renewal)
            for failure in filter(None, await asyncio.gather(*renewals, return_exceptions=True)):
                raise failure
            whole = [message for message in messages if not message.needs_renewal][: self.count - self.position]
            self.position += len(whole)
            yield whole

    async def move(self, message: ParkedMessage, headers: Mapping[str, object]) -> None:
        """Put a copy with these headers at the end of the requests queue, then drop `message`.

        Raises BrokerError; `is_move_unfinished` says then, as after a cancellation, whether it may be in both queues.
        """
        self.is_move_unfinished = True
        try:
            await self._copy(message, headers, self._requests, sent_at=datetime.now(UTC))
        except BrokerError as error:
            # A copy that was refused or returned is in no queue; any other can still arrive.
            self.is_move_unfinished = not isinstance(error.__cause__, DeliveryError)
            raise
        await self.drop(message)
        self.is_move_unfinished = False

    async def drop(self, message: ParkedMessage) -> None:
        """Acknowledge `message`, which deletes it. Raises BrokerError."""
        if self._channel.is_closed:
            raise BrokerError(_LOST)
        await self._channel.basic_ack(message.tag, wait=False)
        self._held -= 1
        self._has_dropped = True

    async def release(self) -> None:
        """Give everything else back, once the broker knows what was dropped. Raises BrokerError."""
        if self._is_released:
            return
        if self._channel.is_closed:
            raise BrokerError(_LOST)
        self._is_released = True
        await self._flush()
        # The consumers go with their channel, not before: while one exists, no other reader takes what is on its way
        # back for all there is.
        await self._channel.close()
        await self._wait_until_counted(self._held)

    def open_event_stream(self, exchange: str) -> AbstractAsyncContextManager[EventStream]:
        """The events of what is moved, on the connection of this queue."""
        return open_event_stream(self._connection, exchange)

    async def _flush(self) -> None:
        """Return once the queue has taken in every acknowledgement.

        In front of a quorum queue the channel holds them back when there are many, and forgets them when it is closed:
        of 70,000 some 60 were lost so. A consumer is added through the log of the queue: once the first one is there,
        the channel has let go of what it held back, and once the second is there, that was taken in.
        """
        for _ in range(2 if self._has_dropped else 0):
            await self._add_consumer()

    async def _wait_until_counted(self, held: int) -> None:
        end = time.monotonic() + RETURN_TIMEOUT_SECONDS
        async with open_channel(self._connection) as channel:
            while time.monotonic() < end:
                counted = await channel.queue_declare(self._queue, passive=True, timeout=RPC_TIMEOUT_SECONDS)
                if (counted.message_count or 0) >= held:
                    return
                await asyncio.sleep(COUNT_INTERVAL_SECONDS)

    async def _count_when_alone(self, seconds: float) -> int:
        """How many messages are parked, once no other process reads them."""
        end = time.monotonic() + seconds
        while True:
            counted = await self._channel.queue_declare(self._queue, passive=True, timeout=RPC_TIMEOUT_SECONDS)
            if (counted.consumer_count or 0) <= self._consumers:
                return counted.message_count or 0
            if time.monotonic() >= end:
                raise ParkedQueueInUseError("Another `parked` command is running: repeat this one when it has ended.")
            await asyncio.sleep(COUNT_INTERVAL_SECONDS)

    async def _add_consumer(self) -> None:
        """Let the broker hand over READ_AHEAD messages more than are held."""
        self._consumers += 1
        with self._refusals():
            await self._channel.basic_consume(self._queue, self._on_message, timeout=RPC_TIMEOUT_SECONDS)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except (ChannelNotFoundEntity, ChannelAccessRefused) as error:
            raise refusal(error, "read", f"queue {self._queue!r}", _LOST) from None

    async def _on_message(self, message: DeliveredMessage) -> None:
        self._held += 1
        self._arrived.put_nowait(message)

    def _on_lost(self, *_: object) -> None:
        self._arrived.put_nowait(None)

    async def _next(self) -> list[DeliveredMessage]:
        """What has arrived, at least one message."""
        if self._arrived.empty() and self._held >= self._consumers * READ_AHEAD:
            await self._add_consumer()  # a prefetch cannot be raised, and all that the others may have is held
        try:
            async with asyncio.timeout(DELIVERY_TIMEOUT_SECONDS):
                arrived = [await self._arrived.get()]
        except TimeoutError:
            seconds = f"{DELIVERY_TIMEOUT_SECONDS:g} s"
            sentence = f"The broker delivered none of the parked requests that it counts for {seconds}: try again."
            raise BrokerError(sentence) from None
        while not self._arrived.empty():
            arrived.append(self._arrived.get_nowait())
        messages = [message for message in arrived if message is not None]
        if len(messages) < len(arrived):
            raise BrokerError(_LOST)
        return messages

    async def _renew(self, message: ParkedMessage) -> None:
        headers = {name: value for name, value in message.headers.items() if name not in names.BROKER}
        if is_parked_by_sender(headers, self._requests):
            headers = {name: value for name, value in headers.items() if not is_written_by_worker(name)}
        await self._copy(message, headers, self._queue)
        await self.drop(message)

    async def _copy(
        self, message: ParkedMessage, headers: Mapping[str, object], queue: str, *, sent_at: datetime | None = None
    ) -> None:
        properties = copy_properties(message.properties, headers)
        properties.timestamp = sent_at or properties.timestamp  # the age of a replay starts anew
        try:
            await self._copies.publish(message.body, properties, routing_key=queue, mandatory=True)
        except Exception as error:
            raise refusal(error, "publish to", f"queue {queue!r}", _LOST) from error


@asynccontextmanager
async def open_parked_queue(connection: AbstractConnection, queue: str) -> AsyncIterator[ParkedQueue]:
    """What is parked for the requests queue `queue`; what was read and not dropped goes back at the end."""
    async with open_channel(connection) as channel, open_channel(connection, confirms=True) as copies:
        parked = ParkedQueue(queue, connection, channel, copies)
        await parked.open()
        try:
            yield parked
        except BrokerError:
            raise
        except (Exception, asyncio.CancelledError):
            with suppress(Exception):
                await parked.release()  # the broker is to take in what was dropped so far
            raise
        await parked.release()

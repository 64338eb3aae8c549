"""A delivery and the channel that it came by: whether it is still ours, and how it is settled, once at most.

Law stale-delivery: a delivery tag dies with its channel, and a process that was frozen does not know whether its
channel lives. So ownership ends with the channel, and is doubtful after silence until the broker answers.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Final

from aiormq import Channel
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from worker.policy.call_result import StaleDeliveryError, UncopyableError
from worker.policy.freeze_detector import FreezeDetector
from worker.rabbit.connection import HEARTBEAT_SECONDS, ConnectionLostError, connection_loss_as_error
from worker.rabbit.failure_reasons import closing_reason, reason_in_words

PROBE_TIMEOUT_SECONDS: Final = 5.0
"""Without an answer and without a delivery; then the channel is abandoned."""
FRAMES_PER_TURN: Final = 4
"""Of the ten: the rest is for questions, of which each channel has one at a time, and heartbeats."""
MAX_REFUSED_BODY_BYTES: Final = 1 << 20
"""A larger body is not kept for a copy: while events wait for the broker, all prefetched bodies are in memory."""
_NO_HEADERS: Final[Mapping[str, object]] = {}


class AckWriter:
    """Takes acknowledgements of one channel at any time; writes them while `running`, a few per event loop turn.

    aiormq's queue of frames to be written holds ten. When the broker closes a channel of the connection (a refused
    lock) and the queue is full at that moment, aiormq drops its answer; the broker then takes the next channel of that
    number for a second one and closes the connection: "second 'channel.open' seen". And a task that waits for room in
    the queue waits for ever once the connection is lost. So acknowledgements, which come in bursts, never fill the
    queue, and only the task of this writer waits for it.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._writes: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()

    def __repr__(self) -> str:
        return f"<AckWriter: {self._writes.qsize()} waiting>"

    def ack(self, tag: int) -> None:
        """Acknowledge the delivery `tag`."""
        self._writes.put_nowait(partial(self._channel.basic_ack, tag, wait=False))

    def reject(self, tag: int, *, requeue: bool = True) -> None:
        """Return the delivery `tag` to its queue, or let the broker dead-letter it."""
        self._writes.put_nowait(partial(self._channel.basic_reject, tag, requeue=requeue, wait=False))

    async def flush(self) -> None:
        """Wait until aiormq has everything; what is asked on the channel then comes behind it."""
        await self._writes.join()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write for as long as the context lasts."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            for _ in range(FRAMES_PER_TURN):
                write = await self._writes.get()
                await write()
                self._writes.task_done()
            await asyncio.sleep(0)  # aiormq writes now


class ChannelHealth:
    """Whether one consuming channel still owns its deliveries. `probes` is a channel of its connection, for questions.

    `on_lost` is called once the channel is lost.
    """

    def __init__(
        self,
        channel: Channel,
        probes: Channel,
        queue: str,
        freeze_detector: FreezeDetector,
        on_lost: Callable[[], None],
    ) -> None:
        self.channel = channel
        self.acks = AckWriter(channel)
        self.consumers = 0
        """Consumers of the queue, as the broker last counted them."""
        self._probes = probes
        self._queue = queue
        self._freeze_detector = freeze_detector
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._lost.add_done_callback(lambda _: on_lost())
        self._heard_at = time.monotonic()
        self._freezes = freeze_detector.tick()
        self._probing: asyncio.Task[bool] | None = None
        self._probe_timeout: asyncio.Timeout | None = None
        for closing in (channel.closing, probes.closing):
            closing.add_done_callback(lambda closed: self.mark_lost(closing_reason(closed)))
        cancelled = "the broker cancelled the consumer: the queue was deleted, moved, or timed out"
        channel.on_consumer_cancel_callbacks.add(lambda _: self.mark_lost(cancelled))

    def __repr__(self) -> str:
        return f"<ChannelHealth: {self._lost.result() if self._lost.done() else 'ours'}>"

    def is_lost(self) -> bool:
        """True once the channel is closed, or was abandoned."""
        return self._lost.done() or self.channel.is_closed

    def mark_lost(self, reason: str) -> None:
        """The channel is closed, or must be abandoned."""
        if not self._lost.done():
            self._lost.set_result(reason)

    def note_delivery(self) -> None:
        """A delivery came: the timeout of a probe starts again, for its answer comes behind all that was sent before.

        Behind 1,024 deliveries a busy machine takes longer than PROBE_TIMEOUT_SECONDS: the connection would
        be closed, and everything delivered once more.
        """
        if self._probe_timeout is not None and not self._probe_timeout.expired():
            self._probe_timeout.reschedule(asyncio.get_running_loop().time() + PROBE_TIMEOUT_SECONDS)

    async def lost(self) -> str:
        """Wait until the channel is lost; the reason."""
        return await asyncio.shield(self._lost)

    async def is_still_ours(self) -> bool:
        """Whether deliveries of this channel are still ours, asked of the broker if it was silent or we were frozen."""
        if self.is_lost():
            return False
        is_fresh = time.monotonic() - self._heard_at <= HEARTBEAT_SECONDS
        return (is_fresh and self._freeze_detector.tick() == self._freezes) or await self.probe()

    async def probe(self) -> bool:
        """Ask the broker something; concurrent callers share one question. False: no answer, the channel is lost."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.get_running_loop().create_task(self._probe())
        return await asyncio.shield(self._probing)

    async def _probe(self) -> bool:
        freezes = self._freeze_detector.tick()  # before the question: a freeze while it is open makes the answer stale
        try:
            with connection_loss_as_error():
                async with asyncio.timeout(PROBE_TIMEOUT_SECONDS) as self._probe_timeout:
                    answer = await self._probes.queue_declare(self._queue, passive=True)
        except ConnectionLostError as error:
            self.mark_lost(str(error))
            return False
        except Exception as error:  # noqa: BLE001 - without an answer, for any reason, the channel is not surely ours
            self.mark_lost(f"the broker does not answer on the consuming connection: {reason_in_words(error)}")
            return False
        finally:
            self._probe_timeout = None
        self._heard_at, self._freezes = time.monotonic(), freezes
        self.consumers = answer.consumer_count or 0
        return not self.is_lost()


class RabbitDelivery:
    """One message, bound to the channel that it came by. `on_settled` is called once it is answered."""

    __slots__ = (
        *("_channel_health", "_is_settled", "_on_settled", "_tag", "_body", "content_encoding", "correlation_id"),
        *("exchange", "headers", "message_id", "properties", "redelivered", "reply_to"),
    )

    def __init__(
        self, message: DeliveredMessage, channel_health: ChannelHealth, on_settled: Callable[[], None]
    ) -> None:
        deliver, properties = message.delivery, message.header.properties
        assert isinstance(deliver, Basic.Deliver)
        assert deliver.delivery_tag is not None
        self._body: bytes | None = message.body
        self.properties = properties
        self.headers: Mapping[str, object] = properties.headers or _NO_HEADERS
        self.message_id = properties.message_id or None
        self.content_encoding = properties.content_encoding or None
        self.correlation_id = properties.correlation_id or None
        self.reply_to = properties.reply_to or None
        self.exchange = deliver.exchange or ""
        self.redelivered = bool(deliver.redelivered)
        self._tag = deliver.delivery_tag
        self._channel_health, self._on_settled, self._is_settled = channel_health, on_settled, False

    @property
    def published_at(self) -> float | None:
        """AMQP timestamp, in epoch seconds; AMQP asks for seconds, but some senders write milliseconds."""
        timestamp: object = self.properties.timestamp
        if isinstance(timestamp, datetime):
            return timestamp.timestamp()
        return timestamp / 1000 if isinstance(timestamp, int) else None

    def is_lost(self) -> bool:
        """True once the channel is closed."""
        return self._channel_health.is_lost()

    async def is_still_ours(self) -> bool:
        """Whether the broker still counts this delivery as ours."""
        return await self._channel_health.is_still_ours()

    @property
    def body(self) -> bytes:
        """The message body. Raises UncopyableError once it was released."""
        if self._body is None:
            raise UncopyableError("a large message is not copied: the broker dead-letters it")
        return self._body

    def release_body(self) -> None:
        """Forget a body of more than MAX_REFUSED_BODY_BYTES."""
        if len(self.body) > MAX_REFUSED_BODY_BYTES:
            self._body = None

    async def ack(self) -> None:
        """Acknowledge. Raises StaleDeliveryError when the channel is closed, or the delivery was settled before."""
        self._settle(self._channel_health.acks.ack)

    async def reject(self) -> None:
        """Return to the queue. A reject counts as a failed delivery on every version; a nack does not on 4.3."""
        self._settle(self._channel_health.acks.reject)

    async def dead_letter(self) -> None:
        """Let the broker put it into the parked queue, for it cannot be copied there."""
        self._settle(partial(self._channel_health.acks.reject, requeue=False))

    def _settle(self, write: Callable[[int], None]) -> None:
        if self._is_settled or self.is_lost():  # the broker closes the channel for a tag that it does not know any more
            raise StaleDeliveryError
        self._is_settled = True
        write(self._tag)
        self._on_settled()

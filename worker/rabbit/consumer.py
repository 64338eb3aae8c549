"""Deliveries in: a session of the consuming connection.

Whatever makes the channel doubtful (closed by the server, cancelled by the server, silence, no consumer
counted by the broker) ends the session, and the link begins another one.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final
from uuid import uuid4

from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from worker.policy.freeze_detector import FreezeDetector
from worker.rabbit.channel_health import PROBE_EVERY, ChannelHealth
from worker.rabbit.connect import RPC_DEADLINE, open_channel
from worker.rabbit.connection_loss import connection_loss_as_error
from worker.rabbit.delivery import Delivery
from worker.rabbit.locks import BrokerLocks
from worker.rabbit.share import Share, Shares
from worker.rabbit.topology import Topology, declare

UNCOUNTED_AT_MOST: Final = 3
"""Probes in a row in which the broker may count no consumer (its count lags) before the session ends."""


class Consumer:
    """Consumes the requests queue while it is wanted to, on whatever channel there is.

    `locks` live as long as its deliveries. `paused` is told why consumption is paused, all reasons, whenever that may
    have changed.
    """

    def __init__(
        self,
        queue: str,
        topology: Topology,
        deliver: Callable[[Delivery], None],
        *,
        prefetch: int,
        freeze_detector: FreezeDetector,
        locks: BrokerLocks,
        paused: Callable[[frozenset[str]], None] = lambda _: None,
    ) -> None:
        self._queue = queue
        self._topology = topology
        self._deliver = deliver
        self._ceiling = self._prefetch = prefetch
        self._freeze_detector = freeze_detector
        self._locks = locks
        self._paused = paused
        self._pauses: set[str] = set()
        self._changed = asyncio.Event()
        self._channel_health: ChannelHealth | None = None
        self._shares = Shares(prefetch)
        self._is_consuming = self._is_short = False
        self._adjusting = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Consumer: {'consuming' if self.is_consuming else 'not consuming'}, {self._channel_health!r}>"

    @property
    def is_consuming(self) -> bool:
        """True while the broker has this consumer."""
        return self._is_consuming and self._channel_health is not None and not self._channel_health.is_lost()

    @property
    def pauses(self) -> frozenset[str]:
        """Why consumption is paused; empty while it is not."""
        return frozenset(self._pauses)

    @property
    def backlog(self) -> int:
        """Messages ready in the queue, as the broker last counted them."""
        return self._channel_health.messages if self._channel_health else 0

    def pause(self, why: str) -> None:
        """Stop consuming until `resume` was called for the same reason."""
        self._pauses.add(why)
        self._paused(self.pauses)
        self._changed.set()

    def resume(self, why: str) -> None:
        """One reason to pause is gone."""
        self._pauses.discard(why)
        self._paused(self.pauses)
        self._changed.set()

    def set_prefetch(self, prefetch: int) -> None:
        """Take in at most so many requests at once from now on; those in hand stay."""
        self._prefetch = prefetch
        self._changed.set()

    async def hold(self, why: str) -> None:
        """Pause, and return once the broker delivers nothing more. Raises what aio-pika raises."""
        self.pause(why)
        with connection_loss_as_error():
            await self._adjust()

    async def stop(self) -> None:
        """Consume no more; what was delivered can still be acknowledged."""
        await self.hold("draining")

    async def flush(self) -> None:
        """Return once the broker has read every acknowledgement written so far (or the channel is gone)."""
        async with self._adjusting:  # a consumer that begins has the prefetch that was set last
            if self._channel_health is None or self._channel_health.is_lost():
                return
            with connection_loss_as_error():
                await self._channel_health.acks.flush()
                await self._channel_health.channel.basic_qos(prefetch_count=self._prefetch, timeout=RPC_DEADLINE)

    async def session(self, connection: AbstractConnection, up: Callable[[], None]) -> str:
        """Consume on `connection` until its channel is lost; the reason. Raises what aio-pika raises."""
        await declare(connection, self._topology)
        async with AsyncExitStack() as stack:
            channel = await stack.enter_async_context(open_channel(connection))
            probes = await stack.enter_async_context(open_channel(connection))
            channel_health = ChannelHealth(channel, probes, self._queue, self._freeze_detector)
            await stack.enter_async_context(channel_health.acks.running())
            stack.enter_context(self._locks.session(connection))
            for closing in (channel.closing, probes.closing):
                closing.add_done_callback(lambda closed: channel_health.mark_lost(_why(closed)))
            channel.on_consumer_cancel_callbacks.add(_cancelled(channel_health))
            self._channel_health, self._shares, self._is_consuming = channel_health, Shares(self._ceiling), False
            try:
                await self._adjust()
                up()
                return await self._watch(channel_health)
            finally:
                channel_health.mark_lost("the session ended")
                self._is_consuming = False

    async def _watch(self, channel_health: ChannelHealth) -> str:
        uncounted = 0
        while not channel_health.is_lost():
            await self._heard(channel_health)
            await self._adjust()
            if not await channel_health.probe():
                break
            uncounted = uncounted + 1 if self._shares.active and not channel_health.consumers else 0
            if uncounted > UNCOUNTED_AT_MOST:
                return "the broker counts no consumer of the queue"
        return await channel_health.lost()

    async def _heard(self, channel_health: ChannelHealth) -> None:
        """Wait until the ground is lost, something has to be adjusted, or the next probe is due."""
        waits = {asyncio.ensure_future(channel_health.lost()), asyncio.ensure_future(self._changed.wait())}
        try:
            await asyncio.wait(waits, timeout=PROBE_EVERY, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._changed.clear()

    async def _adjust(self) -> None:
        """Begin or end consuming, whichever is wanted; more is granted to another consumer, less to a new one."""
        async with self._adjusting:
            channel_health = self._channel_health
            if channel_health is None or channel_health.is_lost():
                return
            shares = self._shares
            if self._pauses:
                self._is_consuming = False
            while shares.active and (self._pauses or shares.granted > self._prefetch):
                await channel_health.channel.basic_cancel(shares.end(), timeout=RPC_DEADLINE)
            if not self._pauses:
                if more := shares.more(self._prefetch):
                    await self._consume(channel_health, shares, Share(more))
                self._is_consuming = True
            self._is_short = not self._pauses and shares.granted < self._prefetch

    async def _consume(self, channel_health: ChannelHealth, shares: Shares, share: Share) -> None:
        def settled() -> None:
            shares.settled(share)
            if self._is_short and shares.more(self._prefetch):
                self._changed.set()

        async def take(message: DeliveredMessage) -> None:
            share.in_hand += 1
            channel_health.note_delivery()
            self._deliver(Delivery(message, channel_health, settled))

        tag = uuid4().hex
        await channel_health.channel.basic_qos(prefetch_count=share.granted, timeout=RPC_DEADLINE)
        await channel_health.channel.basic_consume(self._queue, take, consumer_tag=tag, timeout=RPC_DEADLINE)
        shares.active[tag] = share


def _why(closed: asyncio.Future[object]) -> str:
    error = None if closed.cancelled() else closed.exception()
    return f"the channel was closed: {error}" if error else "the channel was closed"


def _cancelled(channel_health: ChannelHealth) -> Callable[[Basic.Cancel], None]:
    def mark_lost(_: Basic.Cancel) -> None:
        channel_health.mark_lost("the broker cancelled the consumer: the queue was deleted, moved, or timed out")

    return mark_lost

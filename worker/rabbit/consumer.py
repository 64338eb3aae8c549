"""Consumer of the requests queue: one session per connection, with a prefetch that can be changed under way.

Everything that makes the channel doubtful (closed by the server, cancelled by the server, silence, no consumer
counted by the broker) ends the session, and the connection supervisor starts another one.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage

from worker.policy.freeze_detector import FreezeDetector
from worker.rabbit.connection import RPC_TIMEOUT_SECONDS, ConnectionLostError, connection_loss_as_error, open_channel
from worker.rabbit.delivery import ChannelHealth, RabbitDelivery
from worker.rabbit.failure_reasons import reason_in_words
from worker.rabbit.locks import BrokerLocks
from worker.rabbit.queue_probe import QueueProbe, silence_reason
from worker.rabbit.topology import Topology, bind_queues, declare_queues

PROBE_INTERVAL_SECONDS: Final = 3.0
MAX_PROBES_WITHOUT_CONSUMER: Final = 3
"""Probes in a row in which the broker may count no consumer (its count lags) before the session ends."""
BIND_WAIT_SECONDS: Final = 1.0
"""Longest wait for the bindings before a session counts as up; it consumes meanwhile."""
_MIN_GRANT_FRACTION: Final = 4
"""Another consumer must get at least one part in so many of the missing prefetch, else it waits for more room."""


@dataclass(slots=True, eq=False)
class PrefetchShare:
    """The prefetch that one AMQP consumer was granted, and its deliveries that are not settled."""

    granted: int
    in_hand: int = 0


class PrefetchShares:
    """The shares of all AMQP consumers of one channel, by consumer tag; they hold at most `ceiling` together.

    A prefetch cannot be changed under way: it is granted to a new consumer. The deliveries of a cancelled one stay in
    hand, and count until they are settled.
    """

    def __init__(self, ceiling: int) -> None:
        self.active: dict[str, PrefetchShare] = {}
        self._ceiling = ceiling
        self._cancelled: set[PrefetchShare] = set()

    def __repr__(self) -> str:
        return f"<PrefetchShares: {self.granted} granted, {self._left_over} left over>"

    @property
    def granted(self) -> int:
        """What the present consumers may hold."""
        return sum(share.granted for share in self.active.values())

    @property
    def has_room(self) -> bool:
        """Whether a present consumer may get another delivery."""
        return any(share.in_hand < share.granted for share in self.active.values())

    @property
    def _left_over(self) -> int:
        return sum(share.in_hand for share in self._cancelled)

    def grantable(self, prefetch: int) -> int:
        """What another consumer may hold, so that `prefetch` is reached; 0: none, or none yet."""
        missing = prefetch - self.granted
        room = min(missing, self._ceiling - self.granted - self._left_over)
        return room if room >= min(missing, max(1, missing // _MIN_GRANT_FRACTION)) else 0

    def cancel(self) -> str:
        """One consumer is cancelled; its tag."""
        tag, share = self.active.popitem()
        self._cancelled = {*(cancelled for cancelled in self._cancelled if cancelled.in_hand), share}
        return tag

    def settled(self, share: PrefetchShare) -> None:
        """A delivery of a share was answered."""
        share.in_hand -= 1
        if not share.in_hand:
            self._cancelled.discard(share)


class Consumer:
    """Consumes a queue on the channel of the current session, while nothing pauses it.

    `locks` live as long as its deliveries. `paused` is called with all reasons for a pause whenever they may have
    changed.
    """

    def __init__(
        self,
        queue: str,
        topology: Topology,
        deliver: Callable[[RabbitDelivery], None],
        *,
        prefetch: int,
        freeze_detector: FreezeDetector,
        locks: BrokerLocks | None = None,
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
        self._queue_probe: QueueProbe | None = None
        self._shares = PrefetchShares(prefetch)
        self._is_consuming = self._is_short = False
        self._adjusting = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Consumer: {'consuming' if self.is_consuming else 'not consuming'}, {self._channel_health!r}>"

    @property
    def is_consuming(self) -> bool:
        """True while the broker has this consumer."""
        return self._is_consuming and self._channel_health is not None and not self._channel_health.is_lost()

    @property
    def is_answering(self) -> bool:
        """False once the requests queue does not answer although the broker does: see `silence`."""
        return self._queue_probe is None or self._queue_probe.is_answering

    @property
    def silence(self) -> str:
        """What is wrong with a requests queue that does not answer, in words."""
        return silence_reason(self._queue)

    @property
    def pauses(self) -> frozenset[str]:
        """Why consumption is paused; empty while it is not."""
        return frozenset(self._pauses)

    def pause(self, why: str) -> None:
        """Stop consuming until `resume` was called for the same reason."""
        self._pauses.add(why)
        self._paused(self.pauses)
        self._changed.set()

    def resume(self, why: str) -> None:
        """One reason to pause does not hold any more."""
        self._pauses.discard(why)
        self._paused(self.pauses)
        self._changed.set()

    def set_prefetch(self, prefetch: int) -> None:
        """Hold at most so many requests at once from now on; those in hand stay."""
        self._prefetch = prefetch
        self._changed.set()

    async def pause_and_wait(self, why: str) -> None:
        """Pause, and return once the broker delivers nothing more. Raises what aio-pika raises."""
        self.pause(why)
        with connection_loss_as_error():
            await self._adjust()

    async def stop(self) -> None:
        """Consume no more; what was delivered can still be acknowledged."""
        await self.pause_and_wait("draining")

    async def flush(self) -> None:
        """Return once the broker has read every acknowledgement written so far (or the channel is lost)."""
        async with self._adjusting:  # a consumer that begins has the prefetch that was set last
            if self._channel_health is None or self._channel_health.is_lost():
                return
            with connection_loss_as_error():
                await self._channel_health.acks.flush()
                await self._channel_health.channel.basic_qos(prefetch_count=self._prefetch, timeout=RPC_TIMEOUT_SECONDS)

    async def session(self, connection: AbstractConnection, up: Callable[[], None]) -> str:
        """Consume on `connection` until its channel is lost; the reason. Raises what aio-pika raises."""
        await declare_queues(connection, self._topology)
        async with AsyncExitStack() as stack:
            channel = await stack.enter_async_context(open_channel(connection))
            probes = await stack.enter_async_context(open_channel(connection))
            channel_health = ChannelHealth(channel, probes, self._queue, self._freeze_detector, self._changed.set)
            await stack.enter_async_context(channel_health.acks.running())
            if self._locks is not None:
                stack.enter_context(self._locks.session(connection))
            self._channel_health, self._shares = channel_health, PrefetchShares(self._ceiling)
            self._queue_probe = queue_probe = QueueProbe(connection, self._queue)
            stack.push_async_callback(queue_probe.aclose)
            binding = asyncio.create_task(self._bind(connection, channel_health))
            stack.callback(binding.cancel)
            self._is_consuming = False
            try:
                await self._adjust()
                await asyncio.wait((binding,), timeout=BIND_WAIT_SECONDS)
                if not channel_health.is_lost():
                    up()
                return await self._watch(channel_health, queue_probe)
            finally:
                channel_health.mark_lost("the session ended")
                self._is_consuming = False

    async def _bind(self, connection: AbstractConnection, channel_health: ChannelHealth) -> None:
        """Bind beside the consumers: one frozen node of the cluster delays bindings, but not deliveries."""
        try:
            with connection_loss_as_error():
                await bind_queues(connection, self._topology, timeout=None)
        except Exception as error:  # noqa: BLE001 - the next session is the remedy for any error
            channel_health.mark_lost(f"the requests queue cannot be bound: {reason_in_words(error)}")

    async def _watch(self, channel_health: ChannelHealth, queue_probe: QueueProbe) -> str:
        uncounted = 0
        while not channel_health.is_lost():
            # Until the channel is lost, a pause or the prefetch changes, or a probe is due.
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE_INTERVAL_SECONDS):
                    await self._changed.wait()
            self._changed.clear()
            await self._adjust()
            if not await channel_health.probe():
                break
            uncounted = uncounted + 1 if self._shares.active and not channel_health.consumers else 0
            if uncounted > MAX_PROBES_WITHOUT_CONSUMER:
                return "the broker counts no consumer of the queue"
            if self._is_consuming and self._shares.has_room and queue_probe.is_due:
                await self.flush()  # the queue knows of all the room that the consumers have: it must be empty
                queue_probe.ask()
        return await channel_health.lost()

    async def _adjust(self) -> None:
        """Start or cancel consumers, by pauses and prefetch; more is granted to another consumer, less to a new one."""
        async with self._adjusting:
            channel_health, queue_probe, shares = self._channel_health, self._queue_probe, self._shares
            if channel_health is None or queue_probe is None or channel_health.is_lost():
                return
            if self._pauses:
                self._is_consuming = False
            while shares.active and (self._pauses or shares.granted > self._prefetch):
                await channel_health.channel.basic_cancel(shares.cancel(), timeout=RPC_TIMEOUT_SECONDS)
            if not self._pauses:
                if grant := shares.grantable(self._prefetch):
                    await self._consume(channel_health, queue_probe, shares, PrefetchShare(grant))
                self._is_consuming = True
            self._is_short = not self._pauses and shares.granted < self._prefetch

    async def _consume(
        self, channel_health: ChannelHealth, queue_probe: QueueProbe, shares: PrefetchShares, share: PrefetchShare
    ) -> None:
        def on_settled() -> None:
            shares.settled(share)
            if self._is_short and shares.grantable(self._prefetch):
                self._changed.set()

        async def on_message(message: DeliveredMessage) -> None:
            share.in_hand += 1
            channel_health.note_delivery()
            queue_probe.heard_at = time.monotonic()
            self._deliver(RabbitDelivery(message, channel_health, on_settled))

        tag = uuid4().hex
        channel = channel_health.channel
        await channel.basic_qos(prefetch_count=share.granted, timeout=RPC_TIMEOUT_SECONDS)
        try:
            await channel.basic_consume(self._queue, on_message, consumer_tag=tag, timeout=RPC_TIMEOUT_SECONDS)
        except TimeoutError:  # the broker has answered until now
            raise ConnectionLostError(self.silence) from None
        shares.active[tag] = share

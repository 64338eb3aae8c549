"""One replica: it lives, dies, stands still, drains, and comes back with an empty memory."""

import asyncio
import math
from collections.abc import Callable
from typing import Final

from tests.simulation.scenario.plan import START_EPOCH_SECONDS
from tests.simulation.world.assembly import ReplicaDispatcher, ReplicaPorts, SharedWorld
from tests.simulation.world.broker import Channel
from tests.simulation.world.broker_client import Delivery, Publisher, ReplicaLocks
from tests.simulation.world.claims import ReplicaClaims
from tests.simulation.world.dcs_client import CheckingObserver, DcsClient
from tests.simulation.world.event_loop import CURRENT_PROCESS, ReplicaProcess
from tests.simulation.world.records import CURRENT_DELIVERY, DeliveryRecord
from worker.policy.freeze_detector import FROZEN_AFTER

HEARTBEAT_TIMEOUT_SECONDS: Final = 20.0
"""Of silence until the broker gives a client up: two heartbeats of 10 s."""
NETWORK_CUT_SECONDS: Final = 15.0
"""Without a network to the broker."""
LOSS_NOTICED_AFTER_SECONDS: Final = 0.02
"""From the loss of a channel until its replica knows."""
CHANNEL_REOPENED_AFTER_SECONDS: Final = 0.5
RESTART_SECONDS: Final = 2.0
DRAIN_SECONDS: Final = 25.0
DELIVERY_SECONDS: Final = 0.002
PORT_LATENCIES_SECONDS: Final = (0.001, 0.001, 0.003, 0.02)
"""Of a port call, each way."""


class Replica:
    """A replica. Its code runs in contexts that belong to its present life."""

    def __init__(self, world: SharedWorld, name: str) -> None:
        self.name = name
        self.freezes = 0
        """Times that it stood still for so long that it can tell."""
        self.publisher_unavailable_until = 0.0
        self.dispatcher: ReplicaDispatcher
        self.process = ReplicaProcess()
        self._channel = Channel(self, self.process, 0, is_open=False)
        self._context = world.timers.context
        self._claims: ReplicaClaims | None
        self._world = world
        self._offset = world.rng.random() * world.plan.clock_drift
        self._is_draining = False
        self._prefetch, self._pauses = world.plan.prefetch, set[str]()

    @property
    def free_prefetch(self) -> int:
        """How many messages it takes at once; 0 while it consumes nothing."""
        return 0 if self._pauses else self._prefetch

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return self._world.timers.now

    def wall(self) -> float:
        """Epoch seconds by its own clock."""
        return START_EPOCH_SECONDS + self.now + self._offset

    def log(self, text: str, *arguments: object) -> None:
        """A line of the timeline."""
        self._world.log(self.name, text, arguments)

    def report_violation(self, text: str) -> None:
        """A law was broken."""
        self._world.report_violation(self.name, text)

    def start(self) -> None:
        """Begin a new life."""
        world = self._world
        self.process = ReplicaProcess()
        self._is_draining = False
        self._prefetch, self._pauses = world.plan.prefetch, set()
        self.publisher_unavailable_until = 0.0
        self._context = world.timers.context.copy()
        self._context.run(CURRENT_PROCESS.set, self.process)
        self._claims = ReplicaClaims(self, world.store) if world.plan.claims else None
        ports = ReplicaPorts(
            DcsClient(self, world.dcs, world.classify),
            Publisher(self, world.broker),
            CheckingObserver(self),
            self._claims,
            ReplicaLocks(self, world.broker, lambda: self._channel),
            self.wall,
            world.timers.loop.time,
            world.rng.random,
            asyncio.sleep,
            self,
            self.steer,
        )
        self.dispatcher = self._context.run(world.assemble, ports, world.plan)
        self._open(self.process)

    def receive(self, channel: Channel, delivery: DeliveryRecord) -> None:
        """Be handed a message by the broker."""
        context = self._context.copy()
        context.run(CURRENT_DELIVERY.set, delivery)
        worker_delivery = Delivery(self, self._world.broker, channel, delivery)
        self._world.timers.loop.call_later(DELIVERY_SECONDS, self.dispatcher.deliver, worker_delivery, context=context)

    async def point(self, label: str) -> str | None:
        """Pass a point, which takes a moment; here it may die or stand still."""
        await asyncio.sleep(self._world.rng.choice(PORT_LATENCIES_SECONDS))
        fault = self._world.pass_point(self, label)
        if self.process.has_ended:
            await self._world.timers.loop.create_future()
        if self.process.frozen_callbacks is not None:
            await asyncio.sleep(0)
        return fault

    def repeat_writes(self) -> None:
        """The store of claims is back, or has forgotten."""
        if self._claims is not None and not self.process.has_ended and self.process.frozen_callbacks is None:
            self._claims.repeat_writes()

    def steer(self, prefetch: int, paused_by: str) -> None:
        """Be told by the throttle how much to take in, and what pauses that."""
        self.log("takes in %s%s", prefetch, f", paused by {paused_by}" if paused_by else "")
        self._prefetch = prefetch
        self._pauses -= {"breaker", "held"}
        self._pauses |= {paused_by} - {""}
        self._world.timers.after(0.0, self._world.broker.dispatch)

    async def hold(self, why: str) -> None:
        """Take nothing in while a suspect is worked on."""
        await self.point("hold")
        self._pauses.add(why)

    def resume(self, why: str) -> None:
        """The suspect is over."""
        self._pauses.discard(why)
        self._world.timers.after(0.0, self._world.broker.dispatch)

    async def stop(self) -> None:
        """Take no further deliveries."""
        await self.point("stop")
        self._channel.is_consuming = False

    def crash(self) -> None:
        """Die at once, and come back later."""
        self.log("--- dies")
        self._end_process()

    def lose_channel(self, *, is_reopened_first: bool = False) -> None:
        """The broker closes the consuming channel; the replica learns of it a moment later."""
        self.log("--- loses its channel")
        channel = self._channel
        if self.process.frozen_callbacks is not None:
            self._world.broker.drop(channel)  # it will see when it wakes up
        elif is_reopened_first and not self._is_draining:
            self._world.broker.drop(channel, preferred_replica=self)
            channel.notice_loss()
            self._open(self.process)
        else:
            self._world.broker.drop(channel)
            self.on_lost(channel, CHANNEL_REOPENED_AFTER_SECONDS)

    def lose_network(self) -> None:
        """The network to the broker breaks: the replica knows at once, the broker after its heartbeats."""
        if self.process.frozen_callbacks is not None:
            return
        self.log("--- is cut off from the broker")
        channel = self._channel
        channel.notice_loss()
        channel.is_consuming = False
        self._world.timers.after(HEARTBEAT_TIMEOUT_SECONDS, self._world.broker.drop, channel)
        self.publisher_unavailable_until = max(self.publisher_unavailable_until, self.now + NETWORK_CUT_SECONDS)
        self._later(NETWORK_CUT_SECONDS, self._open, self.process)

    def freeze(self, seconds: float) -> None:
        """Stand still; past its patience the broker gives this replica up."""
        if self.process.frozen_callbacks is not None:
            return
        self.log("--- stands still for %g s", seconds)
        self.process.frozen_callbacks = []
        self.freezes += seconds > FROZEN_AFTER
        timers = self._world.timers
        if seconds > HEARTBEAT_TIMEOUT_SECONDS:
            timers.after(HEARTBEAT_TIMEOUT_SECONDS, self._heartbeat_missed, self.process)
        timers.after(seconds, self._wake, self.process)

    def drain(self) -> None:
        """Be told to end, as in a rolling restart."""
        if not self._is_draining and not self.process.has_ended:
            self.log("--- drains")
            self._is_draining = True
            self._later(0.0, lambda: asyncio.ensure_future(self._drained()))

    def on_lost(self, channel: Channel, reopened_after: float) -> None:
        """The channel is gone: learn of it in a moment, and open another one."""
        self._later(LOSS_NOTICED_AFTER_SECONDS, channel.notice_loss)
        self._later(reopened_after, self._open, self.process)

    def _open(self, process: ReplicaProcess) -> None:
        is_wanted = self._channel.is_known_lost or not self._channel.is_open
        if is_wanted and process is self.process and not self._is_draining and not process.has_ended:
            self._channel = self._world.broker.open(self, process, self.freezes)

    def _later(self, seconds: float, callback: Callable[..., object], *arguments: object) -> None:
        self._world.timers.loop.call_later(seconds, callback, *arguments, context=self._context)

    def _heartbeat_missed(self, process: ReplicaProcess) -> None:
        if process.frozen_callbacks is not None and process is self.process and self._channel.is_open:
            self.log("--- is given up by the broker")
            self._world.broker.drop(self._channel)
            self.publisher_unavailable_until = math.inf

    def _wake(self, process: ReplicaProcess) -> None:
        if process.has_ended:
            return
        self.log("--- wakes up")
        self._world.timers.loop.wake(process)
        self.publisher_unavailable_until = min(
            self.publisher_unavailable_until, self.now + CHANNEL_REOPENED_AFTER_SECONDS
        )
        if not self._channel.is_open:
            self.on_lost(self._channel, CHANNEL_REOPENED_AFTER_SECONDS)

    async def _drained(self) -> None:
        self.log("--- drained, %s left", await self.dispatcher.drain(DRAIN_SECONDS))
        self._end_process()

    def _end_process(self) -> None:
        if not self.process.has_ended:
            self.process.has_ended = True
            self._world.broker.drop(self._channel)
            self._world.timers.after(RESTART_SECONDS, self.start)

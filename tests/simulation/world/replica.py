"""A simulated replica: starts, crashes, freezes, drains, and restarts with empty memory."""

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
from tests.simulation.world.task_states import TaskStates
from worker.pipeline.ports import CLAIMS_AWAY
from worker.policy.freeze_detector import FROZEN_AFTER
from worker.policy.migration_request import MigrationRequest

HEARTBEAT_TIMEOUT_SECONDS: Final = 20.0
"""Silence after which the broker closes a connection: two heartbeats of 10 s."""
NETWORK_CUT_SECONDS: Final = 15.0
"""Time without network to the broker."""
LOSS_NOTICED_AFTER_SECONDS: Final = 0.02
"""Time from the loss of a channel until its replica knows."""
CHANNEL_REOPENED_AFTER_SECONDS: Final = 0.5
RESTART_SECONDS: Final = 2.0
DRAIN_SECONDS: Final = 25.0
DELIVERY_SECONDS: Final = 0.002
PORT_LATENCIES_SECONDS: Final = (0.001, 0.001, 0.003, 0.02)
"""Latency of a port call, each way; one of these."""


class Replica:
    """A replica. Its code runs in contexts that belong to its current process."""

    def __init__(self, world: SharedWorld, name: str) -> None:
        self.name = name
        self.freezes = 0
        """Number of freezes that were long enough to be detected."""
        self.publisher_unavailable_until = 0.0
        self.dispatcher: ReplicaDispatcher
        self.process = ReplicaProcess()
        self._channel = Channel(self, self.process, 0, is_open=False)
        self._context = world.timers.context
        self._claims: ReplicaClaims | None = None
        self._world = world
        self._clock_offset = world.rng.random() * world.plan.clock_drift
        self._is_draining = False
        self._prefetch, self._pauses = world.plan.prefetch, set[str]()

    @property
    def prefetch_limit(self) -> int:
        """Most unacknowledged messages; 0 while consumption is paused."""
        is_without_claims = self._claims is not None and not self._claims.is_available
        is_paused = self._pauses or (is_without_claims and self._world.plan.claims_away == "pause")
        return 0 if is_paused else self._prefetch

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return self._world.timers.now

    def epoch_now(self) -> float:
        """Epoch seconds by the clock of this replica."""
        return START_EPOCH_SECONDS + self.now + self._clock_offset

    def log(self, text: str, *arguments: object) -> None:
        """Add a line to the timeline."""
        self._world.log(self.name, text, arguments)

    def report_violation(self, text: str) -> None:
        """Report a broken law."""
        self._world.report_violation(self.name, text)

    def start(self) -> None:
        """Start a new process."""
        world = self._world
        self.process = ReplicaProcess()
        self._is_draining = False
        self._prefetch, self._pauses = world.plan.prefetch, set()
        self.publisher_unavailable_until = 0.0
        self._context = world.timers.context.copy()
        self._context.run(CURRENT_PROCESS.set, self.process)
        self._claims = ReplicaClaims(self, world.claim_store, world.plan.prefetch) if world.plan.claims else None
        ports = ReplicaPorts(
            DcsClient(self, world.dcs, world.classify),
            Publisher(self, world.broker),
            CheckingObserver(self),
            self._claims,
            ReplicaLocks(self, world.broker, lambda: self._channel),
            self.epoch_now,
            world.timers.loop.time,
            world.rng.random,
            asyncio.sleep,
            self,
            self.set_consumption,
            TaskStates(self, world.dcs),
        )
        self.dispatcher = self._context.run(world.assemble, ports, world.plan)
        self._open_channel(self.process)

    def receive(self, channel: Channel, delivery: DeliveryRecord) -> None:
        """Receive a message from the broker."""
        context = self._context.copy()
        context.run(CURRENT_DELIVERY.set, delivery)
        worker_delivery = Delivery(self, self._world.broker, channel, delivery)
        self._world.timers.loop.call_later(DELIVERY_SECONDS, self.dispatcher.deliver, worker_delivery, context=context)

    async def point(self, label: str) -> str | None:
        """Pass a fault point after a latency; the process may crash or freeze here. Returns the fault of this call."""
        await asyncio.sleep(self._world.rng.choice(PORT_LATENCIES_SECONDS))
        fault = self._world.pass_point(self, label)
        if self.process.has_ended:
            await self._world.timers.loop.create_future()
        if self.process.frozen_callbacks is not None:
            await asyncio.sleep(0)
        return fault

    def is_claimed(self, migration: MigrationRequest) -> bool:
        """Whether this replica certainly has the claim on a request."""
        return self._claims is not None and self._claims.is_claimed(migration)

    def claims_back(self) -> None:
        """The claims can be reached again: tell them what they did not hear, and consume."""
        if self._claims is not None and not self.process.has_ended and self.process.frozen_callbacks is None:
            self._claims.reconnected()
        self._world.timers.after(0.0, self._world.broker.dispatch)

    def set_consumption(self, prefetch: int, paused_by: str) -> None:
        """Set prefetch and pause of consumption, as the throttle asks for."""
        self.log("prefetch %s%s", prefetch, f", paused by {paused_by}" if paused_by else "")
        self._prefetch = prefetch
        self._pauses -= {"breaker", "credentials", "region"}
        self._pauses |= {paused_by} - {""}
        self._world.timers.after(0.0, self._world.broker.dispatch)

    async def pause_and_wait(self, reason_to_pause: str) -> None:
        """Pause consumption; without claims it is paused already."""
        if reason_to_pause != CLAIMS_AWAY:
            self._pauses.add(reason_to_pause)
        await self.point("pause")

    def resume(self, reason_to_pause: str) -> None:
        """Resume consumption."""
        self._pauses.discard(reason_to_pause)
        self._world.timers.after(0.0, self._world.broker.dispatch)

    async def stop(self) -> None:
        """Stop consuming."""
        await self.point("stop")
        self._channel.is_consuming = False

    def crash(self) -> None:
        """End the process at once; it restarts later."""
        self.log("--- crashes")
        self._end_process()

    def lose_channel(self, *, is_reopened_first: bool = False) -> None:
        """The broker closes the consuming channel; the replica learns of it a moment later, or when it resumes.

        With `is_reopened_first` it has a new channel before the broker delivers again, and gets its messages back.
        """
        self.log("--- loses its channel")
        channel = self._channel
        if self.process.frozen_callbacks is not None:
            self._world.broker.close_channel(channel)
        elif is_reopened_first and not self._is_draining:
            self._world.broker.close_channel(channel, preferred_replica=self)
            channel.notice_loss()
            self._open_channel(self.process)
        else:
            self._world.broker.close_channel(channel)
            self.on_lost(channel, CHANNEL_REOPENED_AFTER_SECONDS)

    def lose_network(self) -> None:
        """Lose the network to the broker: the replica knows at once, the broker after its heartbeats."""
        if self.process.frozen_callbacks is not None:
            return
        self.log("--- is cut off from the broker")
        channel = self._channel
        channel.notice_loss()
        channel.is_consuming = False
        self._world.timers.after(HEARTBEAT_TIMEOUT_SECONDS, self._world.broker.close_channel, channel)
        self.publisher_unavailable_until = max(self.publisher_unavailable_until, self.now + NETWORK_CUT_SECONDS)
        self._later(NETWORK_CUT_SECONDS, self._open_channel, self.process)

    def freeze(self, seconds: float) -> None:
        """Freeze the process. After the heartbeat timeout the broker closes its channel."""
        if self.process.frozen_callbacks is not None:
            return
        self.log("--- freezes for %g s", seconds)
        self.process.frozen_callbacks = []
        self.freezes += seconds > FROZEN_AFTER
        timers = self._world.timers
        if seconds > HEARTBEAT_TIMEOUT_SECONDS:
            timers.after(HEARTBEAT_TIMEOUT_SECONDS, self._heartbeat_missed, self.process)
        timers.after(seconds, self._wake, self.process)

    def drain(self) -> None:
        """Shut down, as in a rolling restart."""
        if not self._is_draining and not self.process.has_ended:
            self.log("--- drains")
            self._is_draining = True
            self._later(0.0, lambda: asyncio.ensure_future(self._drained()))

    def on_lost(self, channel: Channel, reopened_after: float) -> None:
        """Learn in a moment that the channel was closed, and open another one."""
        self._later(LOSS_NOTICED_AFTER_SECONDS, channel.notice_loss)
        self._later(reopened_after, self._open_channel, self.process)

    def _open_channel(self, process: ReplicaProcess) -> None:
        needs_channel = self._channel.is_known_lost or not self._channel.is_open
        if needs_channel and process is self.process and not self._is_draining and not process.has_ended:
            self._channel = self._world.broker.open(self, process, self.freezes)

    def _later(self, seconds: float, callback: Callable[..., object], *arguments: object) -> None:
        self._world.timers.loop.call_later(seconds, callback, *arguments, context=self._context)

    def _heartbeat_missed(self, process: ReplicaProcess) -> None:
        if process.frozen_callbacks is not None and process is self.process and self._channel.is_open:
            self.log("--- misses its heartbeats")
            self._world.broker.close_channel(self._channel)
            self.publisher_unavailable_until = math.inf

    def _wake(self, process: ReplicaProcess) -> None:
        if process.has_ended:
            return
        self.log("--- resumes")
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
            self._world.broker.close_channel(self._channel)
            self._world.timers.after(RESTART_SECONDS, self.start)

"""One replica: it lives, dies, stands still, drains, and comes back with an empty memory."""

import asyncio
import math
from collections.abc import Callable

from tests.simulation.world.broker import Channel
from tests.simulation.world.claims import Claims
from tests.simulation.world.dcs import EPOCH
from tests.simulation.world.dcs_client import Client, Watcher
from tests.simulation.world.delivery import Delivery
from tests.simulation.world.durations import (
    CUT_FOR,
    DELIVERED_AFTER,
    DRAIN,
    GIVEN_UP_AFTER,
    LATENCIES,
    NOTICED_AFTER,
    REOPENED_AFTER,
    RESTARTED_AFTER,
)
from tests.simulation.world.life import LIFE, Life
from tests.simulation.world.locks import Locks
from tests.simulation.world.publisher import Publisher
from tests.simulation.world.records import HANDED, Handed
from tests.simulation.world.shared import Cast, Flow, Surroundings
from worker.policy.freeze_detector import FROZEN_AFTER


class Replica:
    """A replica. Its code runs in contexts that belong to its present life."""

    def __init__(self, world: Surroundings, name: str) -> None:
        self.name = name
        self.freezes = 0
        """Times that it stood still for so long that it can tell."""
        self.publisher_away_until = 0.0
        self.flow: Flow
        self.life = Life()
        self._channel = Channel(self, self.life, 0, is_open=False)
        self._context = world.timers.context
        self._claims: Claims | None
        self._world = world
        self._offset = world.rng.random() * world.plan.drift
        self._is_draining = False
        self._prefetch, self._pauses = world.plan.prefetch, set[str]()

    @property
    def room(self) -> int:
        """How many messages it takes at once; 0 while it consumes nothing."""
        return 0 if self._pauses else self._prefetch

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return self._world.timers.now

    def wall(self) -> float:
        """Epoch seconds by its own clock."""
        return EPOCH + self.now + self._offset

    def say(self, text: str, *arguments: object) -> None:
        """A line of the timeline."""
        self._world.say(self.name, text, arguments)

    def violate(self, text: str) -> None:
        """A law was broken."""
        self._world.violate(self.name, text)

    def start(self) -> None:
        """Begin a new life."""
        world = self._world
        self.life = Life()
        self._is_draining = False
        self._prefetch, self._pauses = world.plan.prefetch, set()
        self.publisher_away_until = 0.0
        self._context = world.timers.context.copy()
        self._context.run(LIFE.set, self.life)
        self._claims = Claims(self, world.store) if world.plan.claims else None
        cast = Cast(
            Client(self, world.cloud, world.classify),
            Publisher(self, world.broker),
            Watcher(self),
            self._claims,
            Locks(self, world.broker, lambda: self._channel),
            self.wall,
            world.timers.loop.time,
            world.rng.random,
            asyncio.sleep,
            self,
            self.steer,
        )
        self.flow = self._context.run(world.assemble, cast, world.plan)
        self._open(self.life)

    def receive(self, channel: Channel, handed: Handed) -> None:
        """Be handed a message by the broker."""
        context = self._context.copy()
        context.run(HANDED.set, handed)
        delivery = Delivery(self, self._world.broker, channel, handed)
        self._world.timers.loop.call_later(DELIVERED_AFTER, self.flow.deliver, delivery, context=context)

    async def point(self, label: str) -> str | None:
        """Pass a point, which takes a moment; here it may die or stand still."""
        await asyncio.sleep(self._world.rng.choice(LATENCIES))
        fault = self._world.pass_by(self, label)
        if self.life.is_gone:
            await self._world.timers.loop.create_future()
        if self.life.held is not None:
            await asyncio.sleep(0)
        return fault

    def retell(self) -> None:
        """The store of claims is back, or has forgotten."""
        if self._claims is not None and not self.life.is_gone and self.life.held is None:
            self._claims.retell()

    def steer(self, prefetch: int, paused_by: str) -> None:
        """Be told by the throttle how much to take in, and what pauses that."""
        self.say("takes in %s%s", prefetch, f", paused by {paused_by}" if paused_by else "")
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
        self.say("--- dies")
        self._end()

    def lose_channel(self, *, prefer_self: bool = False) -> None:
        """The broker closes the consuming channel; the replica learns of it a moment later."""
        self.say("--- loses its channel")
        channel = self._channel
        if self.life.held is not None:
            self._world.broker.drop(channel)  # it will see when it wakes up
        elif prefer_self and not self._is_draining:
            self._world.broker.drop(channel, prefer=self)
            channel.notice()
            self._open(self.life)
        else:
            self._world.broker.drop(channel)
            self.on_lost(channel, REOPENED_AFTER)

    def cut(self) -> None:
        """The network to the broker breaks: the replica knows at once, the broker after its heartbeats."""
        if self.life.held is not None:
            return
        self.say("--- is cut off from the broker")
        channel = self._channel
        channel.notice()
        channel.is_consuming = False
        self._world.timers.after(GIVEN_UP_AFTER, self._world.broker.drop, channel)
        self.publisher_away_until = max(self.publisher_away_until, self.now + CUT_FOR)
        self._later(CUT_FOR, self._open, self.life)

    def freeze(self, seconds: float) -> None:
        """Stand still; past its patience the broker gives this replica up."""
        if self.life.held is not None:
            return
        self.say("--- stands still for %g s", seconds)
        self.life.held = []
        self.freezes += seconds > FROZEN_AFTER
        timers = self._world.timers
        if seconds > GIVEN_UP_AFTER:
            timers.after(GIVEN_UP_AFTER, self._give_up, self.life)
        timers.after(seconds, self._wake, self.life)

    def drain(self) -> None:
        """Be told to end, as in a rolling restart."""
        if not self._is_draining and not self.life.is_gone:
            self.say("--- drains")
            self._is_draining = True
            self._later(0.0, lambda: asyncio.ensure_future(self._drained()))

    def on_lost(self, channel: Channel, reopened_after: float) -> None:
        """The channel is gone: learn of it in a moment, and open another one."""
        self._later(NOTICED_AFTER, channel.notice)
        self._later(reopened_after, self._open, self.life)

    def _open(self, life: Life) -> None:
        is_wanted = self._channel.is_known_lost or not self._channel.is_open
        if is_wanted and life is self.life and not self._is_draining and not life.is_gone:
            self._channel = self._world.broker.open(self, life, self.freezes)

    def _later(self, seconds: float, callback: Callable[..., object], *arguments: object) -> None:
        self._world.timers.loop.call_later(seconds, callback, *arguments, context=self._context)

    def _give_up(self, life: Life) -> None:
        if life.held is not None and life is self.life and self._channel.is_open:
            self.say("--- is given up by the broker")
            self._world.broker.drop(self._channel)
            self.publisher_away_until = math.inf

    def _wake(self, life: Life) -> None:
        if life.is_gone:
            return
        self.say("--- wakes up")
        self._world.timers.loop.wake(life)
        self.publisher_away_until = min(self.publisher_away_until, self.now + REOPENED_AFTER)
        if not self._channel.is_open:
            self.on_lost(self._channel, REOPENED_AFTER)

    async def _drained(self) -> None:
        self.say("--- drained, %s left", await self.flow.drain(DRAIN))
        self._end()

    def _end(self) -> None:
        if not self.life.is_gone:
            self.life.is_gone = True
            self._world.broker.drop(self._channel)
            self._world.timers.after(RESTARTED_AFTER, self.start)

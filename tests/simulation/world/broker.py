"""A broker with at-least-once delivery: a requests queue, retry queues with a time to live, parked, events.

It behaves as RabbitMQ's quorum queues do: what a lost channel held comes back at once, at the head, marked and
counted; what a retry queue lets go comes back at the tail as a message of its own.
"""

from collections import deque
from collections.abc import Callable, Mapping
from random import Random
from typing import Final, Protocol

from schemas import names
from tests.simulation.scenario.plan import Plan
from tests.simulation.world.event_loop import Timers
from tests.simulation.world.records import Event, Handed, Message
from worker.policy.migration_request import Key

NET: Final = 50
"""Failed deliveries after which the broker parks a message by itself."""


class Consumer(Protocol):
    """A replica as the broker sees it."""

    name: str

    @property
    def room(self) -> int:
        """How many messages it takes at once; 0 while it consumes nothing."""
        ...

    def receive(self, channel: "Channel", handed: Handed) -> None:
        """Be handed a message."""
        ...


class Channel:
    """A consuming channel."""

    __slots__ = ("consumer", "heard", "is_consuming", "is_known_lost", "is_open", "life", "unacked")

    def __init__(self, consumer: Consumer, life: object, heard: int, *, is_open: bool = True) -> None:
        self.consumer = consumer
        self.heard = heard
        """Freezes of the replica before it last heard from the broker here."""
        self.life = life
        self.unacked: dict[Handed, None] = {}
        self.is_open = is_open
        """As the broker sees it."""
        self.is_consuming = True
        self.is_known_lost = False
        """As its replica sees it."""

    def notice(self) -> None:
        """Its replica learns that it is lost."""
        self.is_known_lost = True


class Broker:
    """Queues, channels and what was published."""

    def __init__(self, timers: Timers, rng: Random, plan: Plan, taken_back: Callable[[Handed], None]) -> None:
        self.events: list[Event] = []
        self.parked: list[Message] = []
        self.handed: list[Handed] = []
        self.away_until = 0.0
        """When it is back after a restart."""
        self.locks: dict[Key, Channel] = {}
        self._ready: deque[Message] = deque()
        self._waiting = 0
        self._channels: list[Channel] = []
        self._timers = timers
        self._rng = rng
        self._plan = plan
        self._taken_back = taken_back
        self._shows_zero = rng.random() < 0.5

    @property
    def left(self) -> int:
        """Requests in the queues and in the hands of replicas."""
        return len(self._ready) + self._waiting + sum(len(channel.unacked) for channel in self._channels)

    def open(self, consumer: Consumer, life: object, heard: int) -> Channel:
        """A new channel that consumes."""
        channel = Channel(consumer, life, heard)
        self._channels.append(channel)
        self.dispatch()
        return channel

    def drop(self, channel: Channel, *, prefer: Consumer | None = None) -> None:
        """The channel is gone: what it held comes back at once, at the head."""
        if not channel.is_open:
            return
        channel.is_open = False
        self._channels.remove(channel)
        self.locks = {key: owner for key, owner in self.locks.items() if owner is not channel}
        for handed in reversed(channel.unacked):
            self._take_back(handed, prefer)
        channel.unacked.clear()
        if prefer is None:
            self.dispatch()

    def restart(self, seconds: float) -> list[Channel]:
        """Go away for so long; the channels that are lost by it."""
        self.away_until = self._timers.now + seconds
        lost = list(self._channels)
        for channel in lost:
            channel.is_consuming = False
        for channel in lost:
            self.drop(channel)
        return lost

    def put(self, message: Message) -> None:
        """At the tail of the requests queue."""
        self._ready.append(message)
        self.dispatch()

    def postpone(self, message: Message, place: int) -> None:
        """Into the retry queue of `place`."""
        self._waiting += 1
        self._timers.after(self._plan.delays[place - 1], self._expire, message)

    def ack(self, channel: Channel, handed: Handed) -> None:
        """Done with."""
        del channel.unacked[handed]
        self.dispatch()

    def reject(self, channel: Channel, handed: Handed) -> None:
        """Back to the queue."""
        del channel.unacked[handed]
        self._take_back(handed, None)
        self.dispatch()

    def headers(self, message: Message) -> Mapping[str, object]:
        """As they are delivered: RabbitMQ 3.x counts from 0, 4.x leaves a first delivery without a count."""
        if message.failures or self._shows_zero:
            return {**message.headers, names.DELIVERY_COUNT: message.failures}
        return message.headers

    def dispatch(self) -> None:
        """Hand over what can be."""
        while self._ready:
            free = [c for c in self._channels if c.is_consuming and len(c.unacked) < c.consumer.room]
            if not free:
                return
            message = self._ready.popleft()
            preferred = [c for c in free if c.consumer is message.prefer]
            channel = (preferred or [self._rng.choice(free)])[0]
            message.prefer = None
            message.handed += 1
            handed = Handed(message, message.handed, channel.consumer.name, channel.life, self._timers.now)
            channel.unacked[handed] = None
            self.handed.append(handed)
            channel.consumer.receive(channel, handed)

    def _take_back(self, handed: Handed, prefer: Consumer | None) -> None:
        handed.lost_at = self._timers.now
        handed.message.failures += 1
        handed.message.prefer = prefer
        self._taken_back(handed)
        if handed.message.failures > NET:
            self.parked.append(handed.message)
        else:
            self._ready.appendleft(handed.message)

    def _expire(self, message: Message) -> None:
        self._waiting -= 1
        message.headers = {**message.headers, "x-death": [{"reason": "expired"}]}
        self.put(message)

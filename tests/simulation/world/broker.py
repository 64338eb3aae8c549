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
from tests.simulation.world.records import DeliveryRecord, Event, Message
from worker.policy.migration_request import Key

BROKER_DELIVERY_LIMIT: Final = 50
"""Failed deliveries after which the broker parks a message by itself."""


class Consumer(Protocol):
    """A replica as the broker sees it."""

    name: str

    @property
    def free_prefetch(self) -> int:
        """How many messages it takes at once; 0 while it consumes nothing."""
        ...

    def receive(self, channel: "Channel", delivery: DeliveryRecord) -> None:
        """Be handed a message."""
        ...


class Channel:
    """A consuming channel."""

    __slots__ = ("consumer", "freezes_checked", "is_consuming", "is_known_lost", "is_open", "process", "unacked")

    def __init__(self, consumer: Consumer, process: object, freezes_checked: int, *, is_open: bool = True) -> None:
        self.consumer = consumer
        self.freezes_checked = freezes_checked
        """Freezes of the replica before it last heard from the broker here."""
        self.process = process
        self.unacked: dict[DeliveryRecord, None] = {}
        self.is_open = is_open
        """As the broker sees it."""
        self.is_consuming = True
        self.is_known_lost = False
        """As its replica sees it."""

    def notice_loss(self) -> None:
        """Its replica learns that it is lost."""
        self.is_known_lost = True


class Broker:
    """Queues, channels and what was published."""

    def __init__(self, timers: Timers, rng: Random, plan: Plan, on_return: Callable[[DeliveryRecord], None]) -> None:
        self.events: list[Event] = []
        self.parked: list[Message] = []
        self.deliveries: list[DeliveryRecord] = []
        self.unavailable_until = 0.0
        """When it is back after a restart."""
        self.locks: dict[Key, Channel] = {}
        self._ready: deque[Message] = deque()
        self._waiting = 0
        self._channels: list[Channel] = []
        self._timers = timers
        self._rng = rng
        self._plan = plan
        self._on_return = on_return
        self._shows_zero = rng.random() < 0.5

    @property
    def remaining(self) -> int:
        """Requests in the queues and in the hands of replicas."""
        return len(self._ready) + self._waiting + sum(len(channel.unacked) for channel in self._channels)

    def open(self, consumer: Consumer, process: object, freezes_checked: int) -> Channel:
        """A new channel that consumes."""
        channel = Channel(consumer, process, freezes_checked)
        self._channels.append(channel)
        self.dispatch()
        return channel

    def drop(self, channel: Channel, *, preferred_replica: Consumer | None = None) -> None:
        """The channel is gone: what it held comes back at once, at the head."""
        if not channel.is_open:
            return
        channel.is_open = False
        self._channels.remove(channel)
        self.locks = {key: owner for key, owner in self.locks.items() if owner is not channel}
        for delivery in reversed(channel.unacked):
            self._return_to_queue(delivery, preferred_replica)
        channel.unacked.clear()
        if preferred_replica is None:
            self.dispatch()

    def restart(self, seconds: float) -> list[Channel]:
        """Go away for so long; the channels that are lost by it."""
        self.unavailable_until = self._timers.now + seconds
        lost = list(self._channels)
        for channel in lost:
            channel.is_consuming = False
        for channel in lost:
            self.drop(channel)
        return lost

    def enqueue(self, message: Message) -> None:
        """At the tail of the requests queue."""
        self._ready.append(message)
        self.dispatch()

    def postpone(self, message: Message, place: int) -> None:
        """Into the retry queue of `place`."""
        self._waiting += 1
        self._timers.after(self._plan.delays[place - 1], self._expire, message)

    def ack(self, channel: Channel, delivery: DeliveryRecord) -> None:
        """Done with."""
        del channel.unacked[delivery]
        self.dispatch()

    def reject(self, channel: Channel, delivery: DeliveryRecord) -> None:
        """Back to the queue."""
        del channel.unacked[delivery]
        self._return_to_queue(delivery, None)
        self.dispatch()

    def headers(self, message: Message) -> Mapping[str, object]:
        """As they are delivered: RabbitMQ 3.x counts from 0, 4.x leaves a first delivery without a count."""
        if message.failures or self._shows_zero:
            return {**message.headers, names.DELIVERY_COUNT: message.failures}
        return message.headers

    def dispatch(self) -> None:
        """Hand over what can be."""
        while self._ready:
            free = [c for c in self._channels if c.is_consuming and len(c.unacked) < c.consumer.free_prefetch]
            if not free:
                return
            message = self._ready.popleft()
            preferred = [c for c in free if c.consumer is message.preferred_replica]
            channel = (preferred or [self._rng.choice(free)])[0]
            message.preferred_replica = None
            message.delivery_count += 1
            delivery = DeliveryRecord(
                message, message.delivery_count, channel.consumer.name, channel.process, self._timers.now
            )
            channel.unacked[delivery] = None
            self.deliveries.append(delivery)
            channel.consumer.receive(channel, delivery)

    def _return_to_queue(self, delivery: DeliveryRecord, preferred_replica: Consumer | None) -> None:
        delivery.lost_at = self._timers.now
        delivery.message.failures += 1
        delivery.message.preferred_replica = preferred_replica
        self._on_return(delivery)
        if delivery.message.failures > BROKER_DELIVERY_LIMIT:
            self.parked.append(delivery.message)
        else:
            self._ready.appendleft(delivery.message)

    def _expire(self, message: Message) -> None:
        self._waiting -= 1
        message.headers = {**message.headers, "x-death": [{"reason": "expired"}]}
        self.enqueue(message)

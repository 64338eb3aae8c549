"""Simulated broker with at-least-once delivery: requests, retry, follow-up and parked queues, events.

It behaves as quorum queues of RabbitMQ do. Unacknowledged messages of a lost channel return at once, to the head, as
redelivered and counted; messages that expire in a retry queue return to the tail as new messages.
"""

from collections import deque
from collections.abc import Callable, Mapping
from random import Random
from typing import Final, Protocol

from schemas import names
from tests.simulation.scenario.plan import Plan
from tests.simulation.world.event_loop import Timers
from tests.simulation.world.records import DeliveryRecord, Event, LastEvent, Message, WatchStart
from worker.policy.migration_request import Key

BROKER_DELIVERY_LIMIT: Final = 50
"""Delivery limit of the queue: after more failed deliveries the broker moves a message to the parked queue."""
WATCHES_IN_HAND: Final = 3
"""Prefetch of the follow-up queue."""


class Consumer(Protocol):
    """A replica as the broker sees it."""

    name: str

    @property
    def prefetch_limit(self) -> int:
        """Most unacknowledged messages; 0 while consumption is paused."""
        ...

    def receive(self, channel: "Channel", delivery: DeliveryRecord) -> None:
        """Receive a message."""
        ...


class Channel:
    """A consuming channel."""

    __slots__ = ("consumer", "freezes_checked", "is_consuming", "is_known_lost", "is_open", "process", "unacked")

    def __init__(self, consumer: Consumer, process: object, freezes_checked: int, *, is_open: bool = True) -> None:
        self.consumer = consumer
        self.freezes_checked = freezes_checked
        """Freezes of the replica before the broker last confirmed that the channel is open."""
        self.process = process
        self.unacked: dict[DeliveryRecord, None] = {}
        self.is_open = is_open
        """State in the broker."""
        self.is_consuming = True
        self.is_known_lost = False
        """State in the replica."""

    def notice_loss(self) -> None:
        """Let the replica know that the channel is lost."""
        self.is_known_lost = True


class Broker:
    """Queues, channels, locks, and all that was published."""

    def __init__(self, timers: Timers, rng: Random, plan: Plan, on_return: Callable[[DeliveryRecord], None]) -> None:
        self.events: list[Event] = []
        self.parked: list[Message] = []
        self.deliveries: list[DeliveryRecord] = []
        self.unavailable_until = 0.0
        """End of the current restart."""
        self.locks: dict[Key, Channel] = {}
        self.watch_starts: list[WatchStart] = []
        self.last_events: list[LastEvent] = []
        self._ready: deque[Message] = deque()
        self._due_watches: deque[Message] = deque()
        self._waiting = 0
        self._channels: list[Channel] = []
        self._timers = timers
        self._rng = rng
        self._plan = plan
        self._on_return = on_return
        self._sends_zero_count = rng.random() < 0.5

    @property
    def remaining(self) -> int:
        """Requests and watches in queues, and unacknowledged ones."""
        unacked = sum(len(channel.unacked) for channel in self._channels)
        return len(self._ready) + len(self._due_watches) + self._waiting + unacked

    def open(self, consumer: Consumer, process: object, freezes_checked: int) -> Channel:
        """Open a channel that consumes."""
        channel = Channel(consumer, process, freezes_checked)
        self._channels.append(channel)
        self.dispatch()
        return channel

    def close_channel(self, channel: Channel, *, preferred_replica: Consumer | None = None) -> None:
        """Close a channel: its unacknowledged messages return to the head of the queue at once."""
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
        """Be unavailable for this time. Returns the channels that are lost."""
        self.unavailable_until = self._timers.now + seconds
        lost = list(self._channels)
        for channel in lost:
            channel.is_consuming = False
        for channel in lost:
            self.close_channel(channel)
        return lost

    def enqueue(self, message: Message) -> None:
        """Put a message at the tail of its queue."""
        self._queue(message).append(message)
        self.dispatch()

    def postpone(self, message: Message, retry_level: int) -> None:
        """Put a message into the retry queue of this level."""
        self._wait(message, self._plan.delays[retry_level - 1])

    def watch(self, message: Message, checks: int) -> None:
        """Put a watch into the queue in which it waits for its next look."""
        message.checks = checks
        self._wait(message, names.FOLLOW_UP_DELAYS[min(checks, len(names.FOLLOW_UP_DELAYS) - 1)])

    def ack(self, channel: Channel, delivery: DeliveryRecord) -> None:
        """Remove an acknowledged message."""
        del channel.unacked[delivery]
        self.dispatch()

    def reject(self, channel: Channel, delivery: DeliveryRecord) -> None:
        """Return a rejected message to the queue."""
        del channel.unacked[delivery]
        self._return_to_queue(delivery, None)
        self.dispatch()

    def headers(self, message: Message) -> Mapping[str, object]:
        """Headers of a delivery: RabbitMQ 3.x counts from 0, 4.x sends no count with a first delivery."""
        if message.failures or self._sends_zero_count:
            return {**message.headers, names.DELIVERY_COUNT: message.failures}
        return message.headers

    def dispatch(self) -> None:
        """Deliver as many messages as the prefetch limits allow."""
        self._dispatch(self._ready, lambda consumer: consumer.prefetch_limit)
        self._dispatch(self._due_watches, lambda _: WATCHES_IN_HAND)

    def _dispatch(self, queue: deque[Message], prefetch: Callable[[Consumer], int]) -> None:
        while queue:
            free = [c for c in self._channels if c.is_consuming and self._in_hand(c, queue) < prefetch(c.consumer)]
            if not free:
                return
            message = queue.popleft()
            preferred = [c for c in free if c.consumer is message.preferred_replica]
            channel = (preferred or [self._rng.choice(free)])[0]
            message.preferred_replica = None
            message.delivery_count += 1
            delivery = DeliveryRecord(
                message, message.delivery_count, channel.consumer.name, channel.process, self._timers.now
            )
            channel.unacked[delivery] = None
            if message.checks is None:
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
            self._queue(delivery.message).appendleft(delivery.message)

    def _queue(self, message: Message) -> deque[Message]:
        return self._ready if message.checks is None else self._due_watches

    def _in_hand(self, channel: Channel, queue: deque[Message]) -> int:
        return sum(self._queue(delivery.message) is queue for delivery in channel.unacked)

    def _wait(self, message: Message, seconds: float) -> None:
        self._waiting += 1
        self._timers.after(seconds, self._expire, message)

    def _expire(self, message: Message) -> None:
        self._waiting -= 1
        message.headers = {**message.headers, "x-death": [{"reason": "expired"}]}
        self.enqueue(message)

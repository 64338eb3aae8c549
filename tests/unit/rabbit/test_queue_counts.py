"""Counts of waiting messages: what is known of each kind of queue, and since when requests are parked."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiormq.exceptions import ChannelNotFoundEntity

from worker.rabbit.queue_counts import QueueCounts
from worker.rabbit.topology import Topology, TopologyError, describe

PLAN = describe("q", "q-exchange", "events", (1.0, 5.0, 5.0))
REQUESTS, SHORT, LONG, PARKED = "q", "q.retry.1s", "q.retry.5s", "q.parked"


@dataclass(frozen=True)
class Answer:
    """The broker's answer to a passive declare."""

    message_count: int
    consumer_count: int = 0


@dataclass
class Broker:
    """A connection whose channels answer passive declares; one for a queue that is missing closes its channel."""

    queues: dict[str, Answer | None] = field(default_factory=dict)
    """None: the queue does not answer."""
    opened: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def transport(self) -> Any:
        """What aio-pika's connection hands out: the layers below are one here."""
        return self

    connection = transport

    async def channel(self, *, publisher_confirms: bool) -> "BrokerChannel":
        """Open a channel."""
        assert not publisher_confirms
        self.opened += 1
        return BrokerChannel(self)


@dataclass
class BrokerChannel:
    """A channel of the broker."""

    broker: Broker
    is_closed: bool = False

    async def queue_declare(self, queue: str, *, passive: bool) -> Answer:
        """Answer, refuse, or be silent."""
        assert passive
        assert not self.is_closed
        if queue == PARKED:
            self.broker.asked.set()
        if queue not in self.broker.queues:
            self.is_closed = True
            raise ChannelNotFoundEntity
        if (answer := self.broker.queues[queue]) is None:
            try:
                await asyncio.Event().wait()
            finally:
                self.is_closed = True  # as aiormq does: the slot of the answer is lost
        assert answer is not None
        return answer


async def counted(counts: QueueCounts, broker: Broker, *rounds: Callable[[], object]) -> list[Mapping[str, int]]:
    """What is counted in a session, before and after each of `rounds`; afterwards nothing is known."""
    found: list[Mapping[str, int]] = []

    async def session(_: Any, up: Callable[[], None]) -> str:
        up()
        for change in (lambda: None, *rounds):
            change()
            for _ in range(2):  # the answer that was under way, and the one after it
                broker.asked.clear()
                await broker.asked.wait()
                await asyncio.sleep(0)
            found.append(counts.messages)
        return "ended"

    async with asyncio.timeout(30):
        assert await counts.during(session)(broker, lambda: None) == "ended"  # type: ignore[arg-type]  # as far as needed
    assert counts.messages == {}
    return found


def nobody(queues: Collection[str]) -> None:
    """No queue is missing that was there: fails otherwise."""
    raise AssertionError(queues)


def a_broker(requests: int = 3, short: int = 2, long: int = 5, parked: int = 0) -> Broker:
    """A broker with so many messages in the queues of PLAN."""
    return Broker({REQUESTS: Answer(requests, 2), SHORT: Answer(short), LONG: Answer(long), PARKED: Answer(parked)})


async def test_every_kind_of_queue_is_counted() -> None:
    """Equal delays share a queue, which is counted once; one channel serves all questions."""
    broker = a_broker()

    def drained() -> None:
        broker.queues |= {REQUESTS: Answer(0), SHORT: Answer(0)}

    counts = QueueCounts(PLAN, nobody, interval=0.0)
    assert await counted(counts, broker, drained) == [
        {"requests": 3, "retry": 7, "parked": 0},
        {"requests": 0, "retry": 5, "parked": 0},
    ]
    assert broker.opened == 1


async def test_count_that_broker_does_not_give_is_unknown() -> None:
    """A missing retry queue closes the channel: the sum is unknown, and the others are asked on another channel."""
    broker = a_broker(parked=4)
    del broker.queues[SHORT]
    assert await counted(QueueCounts(PLAN, lambda _: None, interval=0.0), broker) == [{"requests": 3, "parked": 4}]
    assert broker.opened > 1


@pytest.mark.parametrize("may_declare", [True, False])
async def test_deleted_queue_is_reported_once_and_declared_again(
    may_declare: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It alone. Without the right to declare it stays missing until it is there."""
    broker, reported, known = a_broker(), list[Collection[str]](), list[Collection[str]]()
    asked: set[str] = set()

    async def declare_queues(_: Any, topology: Topology) -> None:
        assert not topology.exchanges
        asked.update(queue.name for queue in topology.queues)
        if not may_declare:
            raise TopologyError(["this user may not declare it"])
        broker.queues |= dict.fromkeys(asked, Answer(0))

    def deleted() -> None:
        del broker.queues[SHORT], broker.queues[PARKED]

    def applied() -> None:
        known.append(counts.missing)
        broker.queues |= {SHORT: Answer(0), PARKED: Answer(0)}

    def seen() -> None:
        known.append(counts.missing)

    monkeypatch.setattr("worker.rabbit.queue_counts.declare_queues", declare_queues)
    counts = QueueCounts(PLAN, reported.append, interval=0.0)
    await counted(counts, broker, deleted, applied, seen)
    assert (reported, asked) == ([[PARKED, SHORT]], {PARKED, SHORT})
    assert known == [set() if may_declare else {PARKED, SHORT}, set()]
    assert not counts.missing


async def test_silent_queue_is_unknown(monkeypatch: Any) -> None:
    """A queue without a majority of its nodes does not answer, which costs its own count only."""
    monkeypatch.setattr("worker.rabbit.queue_counts.ANSWER_TIMEOUT_SECONDS", 0.01)
    broker = a_broker()
    broker.queues[REQUESTS] = None
    assert await counted(QueueCounts(PLAN, nobody, interval=0.0), broker) == [{"retry": 7, "parked": 0}]


async def test_parked_time_runs_until_queue_is_seen_empty() -> None:
    """Also while a command holds what is parked, so that none is ready, and while the connection is lost."""
    now = 1000.0
    broker = a_broker()
    counts = QueueCounts(PLAN, nobody, interval=0.0, clock=lambda: now)
    seen: list[float | None] = []

    def known() -> tuple[float | None, float | None]:
        return counts.parked_since, counts.parked_seconds

    assert known() == (None, None)

    def then(seconds: float, parked: Answer) -> Callable[[], object]:
        def change() -> None:
            nonlocal now
            seen.append(counts.parked_seconds)
            now += seconds
            broker.queues[PARKED] = parked

        return change

    await counted(counts, broker, then(0, Answer(2)), then(60, Answer(0, 1)), then(60, Answer(5)))
    assert seen == [0.0, 0.0, 60.0]
    assert known() == (1000.0, 120.0)

    await counted(counts, broker, then(60, Answer(0)))
    assert known() == (None, None)

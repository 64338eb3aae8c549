"""Copies: which queue gets one, what a refusal leads to, and what is tried for one that closes the connection."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import DeliveryError, PublishError
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from schemas import names
from worker.policy.call_result import UnconfirmedError, UncopyableError
from worker.rabbit import copies
from worker.rabbit.connection import Brokers
from worker.rabbit.copies import TRIES_ALONE, CopyPublisher
from worker.rabbit.on_demand import ClosedError, OnDemandConnection
from worker.rabbit.publishing import MAX_HEADERS_BYTES, RefusedError

QUEUES = ("q.retry.1s", "q.retry.2s")
OWN = {names.ATTEMPTS: 1, names.JOURNAL: "{}", names.PARKED_REASON: "forbidden", names.USER_ID: "u"}


@dataclass
class Message:
    """A message to be copied."""

    body: bytes = b"body"
    properties: Basic.Properties = field(default_factory=Basic.Properties)


class Broker(OnDemandConnection):
    """Queues that refuse, headers that close the connection, and how the two channels see them."""

    def __init__(self) -> None:
        super().__init__(lambda: Brokers(("amqp://",)), "copies")
        self.refusing: set[str] = set()
        self.missing: set[str] = set()
        self.harmful: set[str] = set()
        self.worn: set[str] = set()
        self.copies: list[tuple[str, set[str]]] = []
        self.tries: list[tuple[str, set[str]]] = []
        self.reported: list[Sequence[str]] = []
        self.cures = 0

    def publisher(self) -> CopyPublisher:
        """The publisher under test."""
        return CopyPublisher(self.publish_shared, self, on_stuck=self.reported.append, on_cured=self._on_cured)

    def _on_cured(self) -> None:
        self.cures += 1
        self.worn.clear()

    async def publish_shared(self, body: bytes, properties: Basic.Properties, queue: str) -> None:
        """The shared channel: it goes on refusing for a queue that once did."""
        if queue in self.refusing:
            self.worn.add(queue)
        if queue in self.worn:
            raise RefusedError(queue)
        self._take(properties, queue)

    async def publish(
        self, body: bytes, properties: Basic.Properties, routing_key: str, timeout_seconds: float, *, mandatory: bool
    ) -> None:
        """The isolated channel."""
        assert mandatory
        if routing_key in self.refusing:
            raise DeliveryError(None, Basic.Nack())
        if routing_key in self.missing:
            returned = Basic.Return()
            raise PublishError(DeliveredMessage(returned, ContentHeader(), b"", self), returned)  # type: ignore[arg-type]
        self._take(properties, routing_key)

    def _take(self, properties: Basic.Properties, queue: str) -> None:
        found = set(properties.headers or {})
        self.tries.append((queue, found))
        if not self.harmful.isdisjoint(found):
            raise ClosedError("501")
        self.copies.append((queue, found))


async def copy(publisher: CopyPublisher, headers: dict[str, object] | None = None) -> None:
    """Make a copy for the first retry level."""
    await publisher.copy(Message(), headers or OWN, QUEUES, MAX_HEADERS_BYTES)


async def test_refusing_queue_leads_to_next_level_without_pause() -> None:
    """And is not asked again for a while."""
    broker = Broker()
    publisher = broker.publisher()
    broker.refusing = {QUEUES[0]}
    await copy(publisher)
    assert [queue for queue, _ in broker.copies] == [QUEUES[1]]
    assert broker.reported == []


async def test_copy_that_no_queue_takes_is_reported_until_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report names the queue that was meant; the channel that goes on refusing is replaced."""
    broker = Broker()
    publisher = broker.publisher()
    broker.refusing = set(QUEUES)
    for _ in range(2):
        with pytest.raises(UnconfirmedError, match=r"q\.retry\.1s.* refuses"):
            await copy(publisher)
    assert broker.reported == [[QUEUES[0]]]
    broker.refusing = set()
    monkeypatch.setattr(copies, "REFUSAL_SECONDS", 0.0)
    await copy(publisher)
    assert (broker.copies[0][0], broker.cures) == (QUEUES[0], 1)
    assert broker.reported == [[QUEUES[0]], []]


async def test_report_ends_when_no_copy_is_in_hand_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a replica that lost its deliveries would pause for ever."""
    broker = Broker()
    publisher = broker.publisher()
    broker.refusing = set(QUEUES)
    with pytest.raises(UnconfirmedError):
        await copy(publisher)
    publisher.forget_old()
    assert broker.reported == [[QUEUES[0]]]
    monkeypatch.setattr(copies, "STUCK_SECONDS", -1.0)
    publisher.forget_old()
    assert broker.reported == [[QUEUES[0]], []]


async def test_copy_that_closes_connection_is_tried_without_headers_of_sender() -> None:
    """Alone with all, then alone with what a worker wrote."""
    broker = Broker()
    broker.harmful = {"x-harmful"}
    await copy(broker.publisher(), OWN | {"x-harmful": 1, "x-note": 2})
    everything = {*OWN, "x-harmful", "x-note"}
    assert [found for _, found in broker.tries] == [everything] * (1 + TRIES_ALONE) + [set(OWN)]
    assert broker.copies == [(QUEUES[0], set(OWN))]


async def test_copy_that_closes_connection_without_headers_too_cannot_be_made() -> None:
    """It is left to the broker's dead-lettering."""
    broker = Broker()
    broker.harmful = {names.ATTEMPTS}
    with pytest.raises(UncopyableError):
        await copy(broker.publisher())
    assert len(broker.tries) == 1 + 2 * TRIES_ALONE


async def test_missing_queue_is_unconfirmed() -> None:
    """Neither refused nor harmful: it is declared again with the next session."""
    broker = Broker()
    broker.worn = broker.missing = set(QUEUES)
    with pytest.raises(UnconfirmedError, match="does not exist"):
        await copy(broker.publisher())
    assert broker.reported == []

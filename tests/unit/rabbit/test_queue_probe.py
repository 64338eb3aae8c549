"""The probe of a quorum queue: what counts as an answer, and for how long one is awaited."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from pamqp.commands import Basic

from worker.rabbit import queue_probe
from worker.rabbit.consumer import PrefetchShare, PrefetchShares
from worker.rabbit.queue_probe import QueueProbe, silence_reason


class FakeQueue:
    """A connection to a broker with one queue, which answers while it has its majority."""

    def __init__(self) -> None:
        self.has_majority = asyncio.Event()
        self.has_majority.set()
        self.message: int | None = None
        self.error: Exception | None = None
        self.asked = self.channels = 0
        self.returned: list[int] = []
        self.is_closed = False
        self.transport = SimpleNamespace(connection=self)

    async def channel(self, *, publisher_confirms: bool) -> Any:
        """Open a channel."""
        assert not publisher_confirms
        self.channels += 1
        return self

    async def basic_get(self, queue: str) -> Any:
        """Answer once there is a majority."""
        assert queue == "requests"
        self.asked += 1
        await self.has_majority.wait()
        if self.error is not None:
            raise self.error
        tag, self.message = self.message, None
        return SimpleNamespace(delivery=Basic.GetEmpty() if tag is None else Basic.GetOk(delivery_tag=tag))

    async def basic_nack(self, delivery_tag: int, *, requeue: bool) -> None:
        """Take a message back."""
        assert requeue
        self.returned.append(delivery_tag)


class Clock:
    """Time that the test sets."""

    now = 100.0

    def monotonic(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The probe's clock."""
    clock = Clock()
    monkeypatch.setattr(queue_probe, "time", clock)
    return clock


async def ask(probe: QueueProbe) -> None:
    """Ask, and let what can happen at once happen."""
    probe.ask()
    for _ in range(5):
        await asyncio.sleep(0)


def state(probe: QueueProbe) -> tuple[bool, bool]:
    """Whether the queue answers, and whether it is to be asked."""
    return probe.is_answering, probe.is_due


async def test_queue_that_answers_is_asked_again_after_a_while(clock: Clock) -> None:
    """On the same channel."""
    queue = FakeQueue()
    probe = QueueProbe(queue, "requests")  # type: ignore[arg-type]
    assert state(probe) == (True, False)
    for asked in (1, 2):
        clock.now += 6.0
        assert state(probe) == (True, True)
        await ask(probe)
        assert (queue.asked, queue.channels, *state(probe)) == (asked, 1, True, False)
    clock.now += 5.0
    probe.heard_at = clock.now
    clock.now += 5.0
    assert state(probe) == (True, False)
    await probe.aclose()


async def test_queue_without_majority_is_silent_until_it_answers(clock: Clock) -> None:
    """Asked once; silent 10 s later, and heard of again by its answer."""
    queue = FakeQueue()
    probe = QueueProbe(queue, "requests")  # type: ignore[arg-type]
    queue.has_majority.clear()
    clock.now += 6.0
    await ask(probe)
    clock.now += 9.0
    assert state(probe) == (True, False)
    clock.now += 1.0
    assert (probe.is_answering, repr(probe)) == (False, "<QueueProbe requests: silent>")
    queue.has_majority.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert (probe.is_answering, queue.asked) == (True, 1)


async def test_delivery_is_an_answer(clock: Clock) -> None:
    """To a question that is still open, for as long as the queue has to answer one."""
    queue = FakeQueue()
    probe = QueueProbe(queue, "requests")  # type: ignore[arg-type]
    queue.has_majority.clear()
    clock.now += 6.0
    await ask(probe)
    clock.now += 10.0
    probe.heard_at = clock.now
    assert state(probe) == (True, False)
    clock.now += 10.0
    assert state(probe) == (False, False)
    await probe.aclose()
    assert state(probe)[0]


async def test_failed_question_counts_as_open(clock: Clock) -> None:
    """It is asked again on a new channel."""
    queue = FakeQueue()
    probe = QueueProbe(queue, "requests")  # type: ignore[arg-type]
    queue.error = TimeoutError("the leader does not answer")
    for _ in range(2):
        clock.now += 6.0
        assert state(probe) == (True, True)
        await ask(probe)
    assert queue.channels == 2
    clock.now += 6.0
    assert state(probe) == (False, True)
    queue.error = None
    await ask(probe)
    assert state(probe) == (True, False)


async def test_message_is_returned_to_its_queue(clock: Clock) -> None:
    """The queue should be empty when it is asked; it answers all the same."""
    queue = FakeQueue()
    queue.message = 7
    probe = QueueProbe(queue, "requests")  # type: ignore[arg-type]
    clock.now += 6.0
    await ask(probe)
    assert (queue.returned, probe.is_answering, probe.is_due) == ([7], True, False)


def test_silence_reason_names_queue_cause_and_remedy() -> None:
    """One sentence."""
    assert silence_reason("q") == (
        "queue 'q' does not answer although the broker does: its leader or most of its nodes are down or frozen; "
        "start the missing nodes of the broker"
    )


def test_shares_have_room_until_all_is_in_hand() -> None:
    """A cancelled consumer gets nothing more."""
    shares, cancelled = PrefetchShares(8), PrefetchShare(2, in_hand=1)
    shares.active["a"] = cancelled
    found = [shares.has_room]
    shares.cancel()
    found.append(shares.has_room)
    shares.active["b"] = PrefetchShare(1, in_hand=1)
    assert [*found, shares.has_room] == [True, False, False]

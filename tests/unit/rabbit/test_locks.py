"""Locks of repeats over a channel that misbehaves: unknown is not free, and one operation disturbs no other."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiormq.exceptions import ChannelAccessRefused, ChannelInvalidStateError, ChannelLockedResource

from worker.rabbit import locks as module
from worker.rabbit.locks import BrokerLocks

KEY = ("project", "id")
Answer = Callable[[], object]


def says(value: object) -> Answer:
    """Answers with a value, or raises an exception."""

    def answer() -> object:
        if isinstance(value, BaseException):
            raise value
        return value

    return answer


OK = says("declare-ok")
LOCKED = says(ChannelLockedResource("RESOURCE_LOCKED"))
CLOSED = says(ChannelInvalidStateError("closed"))
STUCK = says(asyncio.CancelledError())


class Channel:
    """A channel that answers in turn, and is closed by an exception."""

    def __init__(self, answers: list[Answer]) -> None:
        self._answers = answers
        self._is_asked = self.is_closed = False

    async def queue_declare(self, name: str, *, exclusive: bool) -> object:
        """Declare a lock."""
        assert exclusive
        return await self._answer(name)

    async def queue_delete(self, name: str) -> object:
        """Delete a lock."""
        return await self._answer(name)

    async def _answer(self, name: str) -> object:
        assert not self._is_asked, "two operations at once"
        assert name.startswith("q.lock.")
        self._is_asked = True
        try:
            await asyncio.sleep(0)
            if not self._answers:
                await asyncio.Event().wait()
            return self._answers.pop(0)()
        except BaseException:
            self.is_closed = True
            raise
        finally:
            self._is_asked = False


class Broker:
    """A connection whose channels give the prepared answers one after the other."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.opened = 0
        self.transport = SimpleNamespace(connection=self)

    async def channel(self, **_: Any) -> Channel:
        """Open a channel."""
        self.opened += 1
        return Channel(self._answers)


@contextmanager
def locks(broker: Broker) -> Iterator[BrokerLocks]:
    """Locks in a session on the broker."""
    found = BrokerLocks("q")
    with found.session(broker):  # type: ignore[arg-type]
        yield found


@pytest.mark.parametrize(
    ("answers", "is_taken", "opened"),
    [
        ([OK], True, 1),
        ([LOCKED], False, 1),
        ([CLOSED, OK], True, 2),
        ([CLOSED, LOCKED], False, 2),
        ([STUCK, CLOSED, OK], True, 3),
        ([says(Exception()), OK], True, 2),
        ([CLOSED] * 4, False, 3),
        ([says(ConnectionError("gone"))] * 3, False, 3),
        ([says(ChannelAccessRefused("no right"))], True, 1),
    ],
)
async def test_lock_is_taken_only_if_the_broker_says_so(answers: list[Answer], is_taken: bool, opened: int) -> None:
    """What was not answered is asked again on a new channel; without the right to declare there are no locks."""
    broker = Broker(*answers)
    with locks(broker) as found:
        assert await found.take(KEY) is is_taken
    assert broker.opened == opened


async def test_channel_is_opened_anew_after_a_refusal_and_used_again_otherwise() -> None:
    """Many operations, few channels."""
    broker = Broker(OK, OK, LOCKED, OK, OK)
    with locks(broker) as found:
        assert [await found.take(KEY) for _ in range(4)] == [True, True, False, True]
        await found.free(KEY)
    assert broker.opened == 2


async def test_operations_are_serial() -> None:
    """A refusal closes the channel: nothing else may be waiting on it."""
    with locks(Broker(*[OK, LOCKED] * 10)) as found:
        taken = await asyncio.gather(*(found.take(("p", str(number))) for number in range(20)))
    assert taken == [True, False] * 10


async def test_without_a_session_nothing_is_free() -> None:
    """Neither before the first nor after the last."""
    found = BrokerLocks("q")
    assert not await found.take(KEY)
    with found.session(Broker(OK)):  # type: ignore[arg-type]
        assert repr(found) == "<BrokerLocks: usable>"
    assert not await found.take(KEY)
    await found.free(KEY)
    assert repr(found) == "<BrokerLocks: away>"


async def test_broker_that_does_not_answer_gives_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to the one that asks, nor to those that wait behind it."""
    monkeypatch.setattr(module, "ANSWER_TIMEOUT_SECONDS", 0.01)
    monkeypatch.setattr(module, "TURN_TIMEOUT_SECONDS", 0.05)
    with locks(Broker()) as found:
        assert not any(await asyncio.gather(*(found.take(("p", str(number))) for number in range(5))))


async def test_cancelled_operation_leaves_the_next_one_alone() -> None:
    """A worker that hands back at its deadline cancels what is under way."""
    broker = Broker()
    with locks(broker) as found:
        taking = asyncio.create_task(found.take(KEY))
        while not broker.opened:
            await asyncio.sleep(0)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        assert taking.cancelled()
        broker._answers.append(OK)
        assert await found.take(KEY)

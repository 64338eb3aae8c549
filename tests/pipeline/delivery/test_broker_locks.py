"""Broker locks without claims: two replicas never look up a repeated request at once, nor before its task is listed."""

import asyncio

import pytest

from tests.pipeline.bench import Bench
from tests.pipeline.fakes import BUSY, FakeDelivery
from worker.pipeline.repeat_locks import RepeatLocks
from worker.policy.call_result import TaskCreated, TaskFound
from worker.policy.retry_policy import RetryPolicy

SETTLED = RetryPolicy(settle=0.05)
NEVER_SENT_HEADERS = {"x-attempts": 0, "x-round": 1, "x-first-received-at": "2027-01-15T07:59:00.000Z"}


class SharedLock:
    """A lock that one replica has at a time."""

    def __init__(self) -> None:
        self.owner: str | None = None

    def of(self, name: str) -> "LockAccess":
        """A replica's access to it."""
        return LockAccess(self, name)


class LockAccess:
    """One replica's access, and what it did."""

    def __init__(self, lock: SharedLock, name: str) -> None:
        self._lock, self._name = lock, name
        self.recorded: list[str] = []
        self.was_freed = asyncio.Event()

    async def take(self, key: tuple[str, str]) -> bool:
        """Take the lock if it is free or ours."""
        self.recorded.append("take")
        self._lock.owner = self._lock.owner or self._name
        return self._lock.owner == self._name

    async def free(self, key: tuple[str, str]) -> None:
        """Give it back."""
        self.recorded.append("free")
        self._lock.owner = None
        self.was_freed.set()


def repeat() -> FakeDelivery:
    """A delivery that is not the first, for which nothing was ever sent."""
    return FakeDelivery(headers=NEVER_SENT_HEADERS)


async def test_locked_repeat_waits_for_end_of_other_replicas_listing_delay() -> None:
    """The lock outlasts the create by the listing delay; a repeat that meets it waits without using a retry level."""
    lock = SharedLock()
    first, second = (Bench(SETTLED, locks=lock.of(name)) for name in "ab")
    await first.deliver(repeat())
    await second.deliver(repeat())
    (copy,) = second.publisher.published
    assert first.dcs.calls == ["find", "create"]
    assert second.dcs.calls == []
    assert (copy.headers["x-round"], copy.headers["x-last-sent-at"]) == (1, "2027-01-15T08:00:00.000Z")


async def test_lock_is_freed_after_listing_delay_of_create() -> None:
    """It is freed after the listing delay, unless the same replica processes the request again."""
    access = SharedLock().of("a")
    locks = RepeatLocks(access, settle=0.02)
    bench = Bench(SETTLED, locks=access)
    bench.dispatcher._pipeline._locks = locks
    await bench.deliver(repeat())
    assert repr(locks) == "<RepeatLocks: 0 in use, 1 kept>"
    async with asyncio.timeout(5):
        await access.was_freed.wait()
    assert access.recorded == ["take", "free"]
    assert repr(locks) == "<RepeatLocks: 0 in use, 0 kept>"


@pytest.mark.parametrize(("find", "create", "outcome"), [([TaskFound("i-9")], [], "adopted"), ([], [BUSY], "400")])
async def test_lock_is_freed_at_once_without_create(find: list[object], create: list[object], outcome: str) -> None:
    """A task that was found is listed, and a refused create made none."""
    access = SharedLock().of("a")
    bench = Bench(SETTLED, find=find, create=create, locks=access)
    await bench.deliver(repeat())
    assert (bench.observer.outcomes[0][1], access.recorded) == (outcome, ["take", "free"])


async def test_first_delivery_and_reconcile_off_take_no_lock() -> None:
    """The normal path costs nothing, nor do state headers of a sender; a lock without a look-up would prove nothing."""
    access = SharedLock().of("a")
    for delivery in (FakeDelivery(), FakeDelivery(headers=NEVER_SENT_HEADERS, exchange="dcs.migration")):
        await Bench(locks=access).deliver(delivery)
    await Bench(RetryPolicy(reconcile="off"), create=[TaskCreated("i-1")], locks=access).deliver(repeat())
    assert access.recorded == []


async def test_repeat_at_same_replica_takes_over_its_lock() -> None:
    """The kept lock is taken over, and not freed meanwhile."""
    access = SharedLock().of("a")
    locks = RepeatLocks(access, settle=60.0)
    bench = Bench(SETTLED, create=[BUSY, TaskCreated("i-1")], locks=access)
    bench.dispatcher._pipeline._locks = locks
    await bench.deliver(repeat())
    await bench.deliver(repeat())
    assert access.recorded[-1] == "take"
    assert repr(locks) == "<RepeatLocks: 0 in use, 1 kept>"

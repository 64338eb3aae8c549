"""Marker check: one call per region in the background, which delays, fails and holds no request."""

import asyncio
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import replace

import pytest

from schemas.dcs import TaskRow
from tests.pipeline.fakes import FORBIDDEN, UNSENT
from tests.pipeline.virtual_time.throttle_bench import REGION, ThrottleBench, simple_migration, throttled
from worker.pipeline.marker_check import BUSY_SECONDS, MarkerCheck
from worker.policy.call_result import CallError, Condition, TaskCreated
from worker.policy.migration_request import MigrationRequest

DELAY = 45.0
DELIVERY: ContextVar[str] = ContextVar("delivery")
MIGRATION = simple_migration()
KEPT = TaskRow(task_id="i", description=MIGRATION.marker)


def create(check: MarkerCheck, migration: MigrationRequest = MIGRATION) -> None:
    """Create a task, as the executor does."""
    if REGION in check.waiting:
        check.waiting[REGION](migration, TaskCreated("i"))


class MarkerBench(ThrottleBench):
    """A throttle whose credentials were accepted, a marker check, and a scripted list call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls(TaskCreated("i"))
        self.rows: list[TaskRow | CallError | None] = [KEPT]
        """Answers of the list call; the last one repeats."""
        self.looks: list[float] = []
        """When the list call was made."""
        self.seconds = 0.01
        self.reports: list[tuple[str, str, str]] = []
        self.check = MarkerCheck((REGION,), self._look, self.throttle, self._report, DELAY)
        self.started_at = self.world.loop.now

    async def _look(self, migration: MigrationRequest, task_id: str) -> TaskRow | CallError | None:
        self.looks.append(self.world.loop.now - self.started_at)
        await asyncio.sleep(self.seconds)
        return self.rows.pop(0) if len(self.rows) > 1 else self.rows[0]

    def _report(self, migration: MigrationRequest, task_id: str, state: str) -> None:
        self.reports.append((migration.region, task_id, state))

    def created(self, seconds: float) -> None:
        """A task was created; let some time pass."""

        async def scenario() -> None:
            create(self.check)
            await asyncio.sleep(seconds)

        self.run(scenario())


@pytest.fixture
def marker() -> Iterator[MarkerBench]:
    """A bench that is closed after the test."""
    bench = MarkerBench()
    yield bench
    bench.world.close()


def test_first_task_of_a_region_is_looked_at_once_after_the_listing_delay(marker: MarkerBench) -> None:
    """However many are created: one call and one report per region and process."""
    for _ in range(100):
        marker.created(1.0)
    assert marker.looks == [pytest.approx(DELAY, abs=0.1)]
    assert marker.reports == [(REGION, "i", "kept")]
    assert marker.check.facts == {REGION: {"marker": "kept"}}


def test_call_is_in_no_trace_of_a_request(marker: MarkerBench) -> None:
    """It is made long after the delivery in which the task was created."""
    seen: list[str] = []

    async def look(*_: object) -> None:
        seen.append(DELIVERY.get("none"))

    check = MarkerCheck((REGION,), look, marker.throttle, lambda *_: None, DELAY)

    async def scenario() -> None:
        DELIVERY.set("r-1")
        create(check)
        await asyncio.sleep(2 * DELAY)

    marker.run(scenario())
    assert seen == ["none"]


def test_without_marker_there_is_nothing_to_look_at(marker: MarkerBench) -> None:
    """`WORKER_MARKER=false`."""
    create(marker.check, replace(MIGRATION, marker=None))
    marker.run(asyncio.sleep(10 * DELAY))
    assert (marker.looks, marker.reports) == ([], [])


@pytest.mark.parametrize("row", [None, TaskRow(task_id="i")], ids=["not listed", "no description"])
def test_what_the_list_does_not_show_stays_unknown(marker: MarkerBench, row: TaskRow | None) -> None:
    """Nothing is reported, and there is no second call."""
    marker.rows = [row]
    for _ in range(3):
        marker.created(2 * DELAY)
    assert (len(marker.looks), marker.reports, marker.check.facts) == (1, [], {})


@pytest.mark.parametrize("error", [FORBIDDEN, UNSENT, throttled(Condition.REGION_THROTTLED)], ids=lambda e: e.label)
def test_failed_call_holds_no_request_and_an_outage_is_outlived(marker: MarkerBench, error: CallError) -> None:
    """A refusal is final; after an outage or a 429 the next task is looked at. Only the 429 is learnt."""
    marker.rows = [error, error, error, error, KEPT]
    for _ in range(8):
        marker.created(2 * DELAY)
    is_final = error is FORBIDDEN
    assert len(marker.looks) == (1 if is_final else 5)
    assert bool(marker.reports) is not is_final
    assert (marker.region.projects, marker.region.breaker.is_blocking, marker.region.hold.is_blocking) == (
        {},
        False,
        False,
    )
    assert (marker.region.limiter.rate is not None) is (error.http_status == 429)


def test_call_waits_until_no_request_waits(marker: MarkerBench) -> None:
    """It has no permit while requests wait for one, and takes none from them."""
    clock = marker.world.loop.time

    async def sender(name: str) -> None:
        while clock() < marker.started_at + DELAY + 2 * BUSY_SECONDS:
            await marker.call(TaskCreated("i"), name, seconds=1.0)

    async def scenario() -> None:
        create(marker.check)
        await asyncio.gather(*(sender(f"r{number}") for number in range(200)))
        assert marker.looks == []
        await asyncio.sleep(BUSY_SECONDS)

    marker.run(scenario())
    assert (len(marker.looks), len(marker.reports)) == (1, 1)


def test_drain_ends_the_wait(marker: MarkerBench) -> None:
    """Without a call."""
    marker.created(DELAY / 2)
    marker.throttle.close()
    marker.created(10 * DELAY)
    assert (marker.looks, marker.reports) == ([], [])


def test_close_ends_a_call_under_way(marker: MarkerBench) -> None:
    """At once, and its permit is given back."""
    marker.seconds = 1000.0
    marker.created(DELAY + 1.0)
    assert (len(marker.looks), marker.region.in_use) == (1, 1)
    before = marker.world.loop.now
    marker.run(marker.check.aclose())
    assert (marker.world.loop.now - before < 1.0, marker.region.in_use, marker.reports) == (True, 0, [])

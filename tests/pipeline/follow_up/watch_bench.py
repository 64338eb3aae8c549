"""Bench of the follow-up in virtual time: a broker that holds watches, and DCS calls with scripted states."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from schemas import names
from schemas.dcs import JobReply, TaskDetail
from schemas.timestamp import to_text
from tests.pipeline.fakes import NOW, FakeConsumer, FakeDcs, FakeDelivery, FakeObserver, FakePublisher, Published
from tests.pipeline.virtual_time.event_loop import VirtualTime
from worker.bootstrap.assembly import Ports, build_follow_up
from worker.pipeline.dispatcher import Dispatcher
from worker.pipeline.follow_up import FollowUp
from worker.pipeline.throttle import Throttle
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence
from worker.policy.follow_up import FollowUpSettings, ListedTask, Watch
from worker.policy.retry_policy import ThrottleSettings

REGION = "cn-north-4"
CREATING = ListedTask("CREATING")
UNKNOWN = CallError(Evidence.REFUSED, ErrorKind.REJECTED, CallStatus.ANSWERED, http_status=400, error_code="DCS.4133")


def success(task: str = "i-1", project: str = "p1", job: str | None = "j-1", **changes: Any) -> dict[str, Any]:
    """The body of a success event at NOW."""
    ids = {"request_id": f"r-{task}", "project_id": project, "region": REGION, "name": "t", "instance_id": task}
    times = {"received_at": to_text(NOW), "completed_at": to_text(NOW)}
    return {**ids, "job_id": job, "resolution": "created", "task_status": None, "attempts": 1, **times, **changes}


class ScriptedTasks:
    """Calls of DCS: the state of each task is what `listed`, `details` and `jobs` say at the moment."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.listed: dict[str, dict[str, ListedTask]] = {}
        """By project."""
        self.details: dict[str, TaskDetail | CallError] = {}
        self.jobs: dict[str, JobReply | CallError] = {}
        self.list_error: CallError | None = None
        self.pages = 1
        self.seconds = 0.0
        self.calls: list[tuple[float, str]] = []
        self._clock = clock

    async def statuses(
        self, project_id: str, region: str, on_call: Callable[[], None]
    ) -> Mapping[str, ListedTask] | CallError:
        """See `TaskStates`."""
        rows = dict(self.listed.get(project_id, {}))
        for _ in range(self.pages):
            on_call()
            await self._pass("list")
        return self.list_error or rows

    async def show(self, watch: Watch) -> TaskDetail | CallError:
        """See `TaskStates`."""
        await self._pass("show")
        return self.details.get(watch.success.instance_id, UNKNOWN)

    async def job(self, watch: Watch) -> JobReply | CallError:
        """See `TaskStates`."""
        await self._pass("job")
        return self.jobs[watch.success.job_id or ""]

    async def _pass(self, operation: str) -> None:
        self.calls.append((self._clock(), operation))
        await asyncio.sleep(self.seconds)

    @property
    def operations(self) -> list[str]:
        """Operations in their order."""
        return [operation for _, operation in self.calls]


class WatchBench:
    """One replica that follows up, on a clock that moves as the event loop's; `publisher` is also the broker."""

    def __init__(self, *, timeout: float = 1800.0, listing_delay: float = 45.0, rate: float | None = None) -> None:
        self.loop = VirtualTime()
        self.publisher, self.observer = FakePublisher(), FakeObserver()
        self.tasks = ScriptedTasks(self.loop.time)
        settings = ThrottleSettings((REGION,), 64, 30.0, (10.0, 60.0), rate=rate)
        self.throttle = Throttle(
            settings, FakeDcs().probe, self.observer, lambda *_: None, clock=self.loop.time, random_unit=lambda: 0.0
        )
        ports = Ports(
            *(FakeDcs(), self.publisher, self.observer, self.throttle, FakeConsumer()),
            now=lambda: NOW + self.loop.now,
            random_unit=lambda: 0.0,
        )
        self._ports = ports
        self._settings = FollowUpSettings((REGION,), timeout, listing_delay, list_timeout=30.0)
        self.dispatcher: Dispatcher[FollowUp] = self.restart()
        self.deliveries: list[FakeDelivery] = []

    def restart(self) -> Dispatcher[FollowUp]:
        """Another process with the same broker and service."""
        self.dispatcher = build_follow_up(self._ports, self.tasks, self._settings)
        return self.dispatcher

    def deliver(
        self, body: dict[str, Any], checks: int = 0, headers: Mapping[str, object] | None = None
    ) -> FakeDelivery:
        """Deliver a watch now."""
        delivery = FakeDelivery(json.dumps(body).encode(), headers or {names.ROUND: checks}, correlation_id="c-1")
        self.deliveries.append(delivery)
        self.dispatcher.deliver(delivery)
        return delivery

    def run(self, scenario: Awaitable[None]) -> None:
        """Run a scenario in virtual time."""
        self.loop.run_until_complete(asyncio.wait_for(scenario, 1e6))

    async def settled(self) -> None:
        """Wait until nothing is in flight."""
        while self.dispatcher.in_flight:
            await asyncio.sleep(0.01)

    async def follow(self, *bodies: dict[str, Any]) -> None:
        """Let the broker bring watches again and again, until each has ended."""
        waiting = [(self.loop.now + names.FOLLOW_UP_DELAYS[0], body, 0) for body in bodies]
        seen = len(self.publisher.published)
        while waiting:
            at = min(due for due, *_ in waiting)
            await asyncio.sleep(max(0.0, at - self.loop.now))
            for entry in [entry for entry in waiting if entry[0] <= self.loop.now + 1e-6]:
                waiting.remove(entry)
                self.deliver(entry[1], entry[2])
            await self.settled()
            for published in self.publisher.published[seen:]:
                if published.what == "watch":
                    delay = names.FOLLOW_UP_DELAYS[min(published.retry_level, len(names.FOLLOW_UP_DELAYS) - 1)]
                    waiting.append((self.loop.now + delay, published.body, published.retry_level))
            seen = len(self.publisher.published)

    @property
    def watches(self) -> list[Published]:
        """Copies of watches that were published."""
        return [published for published in self.publisher.published if published.what == "watch"]

    def close(self) -> None:
        """End what still runs."""
        self.throttle.close()
        self.loop.close()

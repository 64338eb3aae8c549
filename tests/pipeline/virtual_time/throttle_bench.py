"""One gate in virtual time, with nothing behind it."""

import asyncio

from schemas.request import Request, Task
from tests.pipeline.virtual_time.fakes import Replica, World
from worker.pipeline.gate import Gate
from worker.pipeline.lane import Lane
from worker.policy.call_result import (
    CallError,
    CallStatus,
    Condition,
    ErrorKind,
    Evidence,
    LookupResult,
    TaskCreated,
    Throttle,
)
from worker.policy.migration_request import MigrationRequest, migration

REGION = "cn-north-4"


def slow(scope: Condition, calls: int = 5, window: float = 1.0) -> CallError:
    """A 429."""
    return CallError(
        Evidence.REFUSED,
        ErrorKind.THROTTLED,
        CallStatus.ANSWERED,
        http_status=429,
        condition=scope,
        throttle=Throttle(calls, window),
    )


def an_order(name: str = "r", project: str = "p") -> MigrationRequest:
    """An order of some request."""
    task = Task(name=name, vpc_id="v", subnet_id="s", security_group_id="g")
    return migration(Request(request_id=name, project_id=project, task=task), default_region=REGION, with_marker=True)


class Bench:
    """One gate in virtual time, with nothing behind it."""

    def __init__(self, prefetch: int = 64) -> None:
        self.world = World(1, prefetch=prefetch)
        self.replica: Replica = self.world.replicas[0]
        self.gate: Gate = self.replica.gate
        self.lane: Lane = self.gate.lanes[REGION]

    async def call(
        self,
        ending: TaskCreated | LookupResult | CallError | None,
        name: str = "r",
        project: str = "p",
        seconds: float = 0.01,
    ) -> None:
        """Make one call that ends so; None: it was not made after all."""
        async with self.gate.permit(an_order(name, project)) as permit:
            await asyncio.sleep(seconds)
            if ending is not None:
                permit.ended(ending)

    def calls(self, *endings: TaskCreated | LookupResult | CallError | None, project: str = "p") -> None:
        """Make calls one after the other, each for a request of its own."""

        async def scene() -> None:
            for number, ending in enumerate(endings):
                await self.call(ending, f"r{number}", project)

        self.run(scene())

    def run(self, scene: "asyncio._CoroutineLike[None]") -> None:
        """Play a scene."""
        self.world.loop.run_until_complete(scene)

"""One throttle in virtual time, with nothing behind it but probes."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from schemas.request import Request, Task
from tests.pipeline.virtual_time.fakes import Replica
from tests.pipeline.virtual_time.world import World
from worker.pipeline.throttle import RegionThrottle, Throttle
from worker.policy.call_result import (
    CallError,
    CallResult,
    CallStatus,
    Condition,
    ErrorKind,
    Evidence,
    NamedLimit,
)
from worker.policy.migration_request import MigrationRequest, migration

REGION = "cn-north-4"


def throttled(scope: Condition, calls: int = 5, window: float = 1.0) -> CallError:
    """A 429."""
    return CallError(
        Evidence.REFUSED,
        ErrorKind.THROTTLED,
        CallStatus.ANSWERED,
        http_status=429,
        condition=scope,
        throttle=NamedLimit(calls, window),
    )


def simple_migration(name: str = "r", project: str = "p") -> MigrationRequest:
    """The migration request of a request."""
    task = Task(name=name, vpc_id="v", subnet_id="s", security_group_id="g")
    return migration(Request(request_id=name, project_id=project, task=task), default_region=REGION, with_marker=True)


class ThrottleBench:
    """One throttle in virtual time, with nothing behind it but probes."""

    def __init__(self, prefetch: int = 64, *, regions: tuple[str, ...] = (REGION,)) -> None:
        self.world = World(1, prefetch=prefetch, regions=regions)
        self.replica: Replica = self.world.replicas[0]
        self.throttle: Throttle = self.replica.throttle
        self.region: RegionThrottle = self.throttle.regions[regions[0]]

    @property
    def probes(self) -> list[tuple[float, str]]:
        """When probes were sent, and for which projects."""
        return [(at, project) for at, operation, project, _ in self.world.dcs.calls if operation == "probe"]

    async def call(
        self,
        result: CallResult | None,
        name: str = "r",
        project: str = "p",
        seconds: float = 0.01,
    ) -> None:
        """Make one call with this result; None: it was not made after all."""
        async with self.throttle.permit(simple_migration(name, project), 1) as permit:
            permit.begin_call()
            await asyncio.sleep(seconds)
            if result is not None:
                permit.ended(result)

    def calls(self, *results: CallResult | None, project: str = "p") -> None:
        """Make calls one after the other, each for a request of its own."""

        async def scenario() -> None:
            for number, result in enumerate(results):
                await self.call(result, f"r{number}", project)

        self.run(scenario())

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        """Run a scenario."""
        self.world.loop.run_until_complete(scenario)

"""One region's lane to the service: breaker, limit and pace decide when the next call may begin.

The decisions are pure; who has to wait stands in the lane's line, or first in the line of a project that is throttled.
"""

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any, Final

from worker.pipeline.line import Line
from worker.pipeline.ports import Chance, GateObserver
from worker.policy.bounds import Bounds
from worker.policy.breaker import Breaker
from worker.policy.call_result import StepAsideError
from worker.policy.limit import Limit
from worker.policy.migration_request import MigrationRequest
from worker.policy.pace import Pace
from worker.policy.places import RETURNING, Places
from worker.policy.tenants import PROJECTS, Tenant, Tenants

PROBES: Final = 2
"""Requests of a sick region that wait in hand to be its probes, while those of others are worked on."""


class Call:
    """One call that wants to begin, or has begun."""

    __slots__ = ("begun", "generation", "hold", "migration", "tenant")

    def __init__(self, migration: MigrationRequest) -> None:
        self.migration = migration
        self.begun = 0.0
        self.generation = 0
        """The breaker's when it began."""
        self.tenant: Tenant | None = None
        """Its project, if that is in trouble."""
        self.hold = 0
        """The generation of the project's own breaker."""

    def knows(self, tenant: Tenant) -> bool:
        """Whether the call had its turn in its project as that is now."""
        return self.tenant is tenant and self.hold == tenant.hold.generation


class Lane:
    """One region. `changed` is called when something changed that the intake goes by."""

    def __init__(
        self,
        region: str,
        bounds: Bounds,
        pace: Pace,
        observer: GateObserver,
        changed: Callable[[], None],
        clock: Callable[[], float],
        random_unit: Chance,
    ) -> None:
        self.region = region
        self.breaker = Breaker()
        self.limit = Limit(bounds.prefetch, bounds.deadline)
        self.pace = pace
        self.tenants = Tenants(bounds.delays)
        self.in_use = 0
        self.used_at = -inf
        """When a request for the region came last."""
        self.line: Line[Call] = Line(self.offer, self._take_back, clock)
        self.lines: dict[str, Line[Call]] = {}
        """Of throttled projects."""
        self.clock = clock
        self.random_unit = random_unit
        self.changed = changed
        self._places = Places(bounds.delays)
        self._observer = observer

    def __repr__(self) -> str:
        parts = (self.breaker, self.limit, self.pace, self.line, self.tenants)
        return f"<Lane {self.region}: {self.in_use} in use, {', '.join(map(repr, parts))}>"

    def offer(self, call: Call, now: float) -> float:
        """Let a call begin, and return 0; else seconds until it may, infinite if another one must end before."""
        breaker = self.breaker
        if breaker.is_open:
            if (wait := breaker.wait(now)) > 0.0:
                return wait
        elif self.in_use >= self.limit.value:
            return inf
        if (wait := self.pace.wait(now)) > 0.0:
            return wait
        self.in_use += 1
        self.pace.begin(now)
        call.begun = now
        call.generation = breaker.generation
        if breaker.is_open:
            call.generation = breaker.begin(now, self.random_unit())
            self.turned()
        return 0.0

    async def turn(self, call: Call, until: float, *, is_crowded: bool) -> None:
        """Wait until a call may begin. Raises StepAsideError; at once if others, who could go, would have to wait."""
        if self.breaker.is_open:
            if is_crowded and len(self.line) >= PROBES:
                now = self.clock()
                raise _aside(call, self._places.choose(RETURNING, self.breaker.wait(now), now), "breaker")
            asyncio.get_running_loop().call_soon(self.changed)
        if not await self.line.turn(call, until):
            self.changed()
            raise _aside(call, 0.0, "breaker" if self.breaker.is_open else "turn")

    async def own_turn(self, call: Call, until: float, tenant: Tenant, in_hand: int) -> None:
        """Wait until the call's own project, which is in trouble, may make another one. Raises StepAsideError."""
        project, now = call.migration.project_id, self.clock()
        line = self.lines.get(project)
        waiting = len(line) if line else 0
        aside = tenant.aside(call.migration.key, now, waiting, self.tenants.hands(now, in_hand))
        if aside is not None:
            self.tenants.went_aside(call.migration.key)
            raise StepAsideError(*aside)
        call.tenant = tenant
        call.hold = tenant.hold.begin(now, self.random_unit())
        if waiting or _offer_own(call, now) > 0.0:
            line = line or self._own_line(project)
            if not await line.turn(call, until):
                raise _aside(call, 0.0, "throttled")

    def _own_line(self, project: str) -> Line[Call]:
        if len(self.lines) >= PROJECTS and project not in self.lines:
            known = self.tenants.known
            self.lines = {name: line for name, line in self.lines.items() if line or name in known}
        return self.lines.setdefault(project, Line(_offer_own, _keep, self.clock))

    def leave(self, call: Call, *, has_ended: bool) -> None:
        """A call is over; `has_ended`: it was made, and how it ended was told."""
        if not has_ended:
            self.void(call)
        self.in_use -= 1
        if self.line:
            self.line.move()
        if self.breaker.is_open:
            self.changed()

    def void(self, call: Call) -> None:
        """A call told nothing about anybody."""
        if call.tenant is not None:
            call.tenant.hold.void(call.hold)
        self.breaker.void(call.generation)
        if self.breaker.is_open:
            self.turned()

    def passed(self, call: Call) -> None:
        """A call was kept from the service by a quota: that tells nothing, but is no reason to ask again at once."""
        if call.tenant is not None:
            call.tenant.hold.passed(call.hold)
        self.breaker.passed(call.generation)
        if self.breaker.is_open:
            self.turned()

    def turned(self) -> None:
        """The breaker did something."""
        self._observer.breaker(self.region, self.breaker.state)

    def note(self, level: Any, event: str, **fields: Any) -> None:
        """Something worth a line."""
        self._observer.note(level, event, region=self.region, **fields)

    def close(self) -> None:
        """Send away whoever waits."""
        for line in (self.line, *self.lines.values()):
            line.close()

    def _take_back(self, call: Call) -> None:
        self.leave(call, has_ended=False)


def _offer_own(call: Call, now: float) -> float:
    assert call.tenant is not None
    if (wait := call.tenant.pace.wait(now)) > 0.0:
        return wait
    call.tenant.pace.begin(now)
    return 0.0


def _keep(_: Call) -> None:
    """A turn that nobody took is lost: the pace goes on."""


def _aside(call: Call, seconds: float, why: str) -> StepAsideError:
    if call.tenant is not None:
        call.tenant.hold.void(call.hold)
    return StepAsideError(seconds, why)

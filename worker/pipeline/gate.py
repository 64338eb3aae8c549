"""The gate in front of the service: who wants to make a call waits here, steps aside, or is sent away.

A thin shell: policies decide, and lines wait. One lane for each region; before it, a line for each throttled project.
"""

import asyncio
import random
import time
from collections.abc import Callable
from math import inf
from types import TracebackType
from typing import Self

from worker.pipeline.lane import PROBES, Call, Lane
from worker.pipeline.lessons import learn
from worker.pipeline.line import PATIENCE
from worker.pipeline.open_gate import OpenGate
from worker.pipeline.ports import Chance, GateObserver
from worker.policy.bounds import Bounds
from worker.policy.call_result import CallError, GateClosedError, LookupResult, StepAsideError, TaskCreated
from worker.policy.intake import LATELY, Intake, Region, Wish
from worker.policy.migration_request import MigrationRequest
from worker.policy.pace import Pace

__all__ = ["Gate", "OpenGate"]


class Gate(OpenGate):
    """Lets calls through as fast as the service bears.

    `clock` is the one that the event loop's timers go by; `steer` is called when what is to be consumed changes.
    """

    def __init__(
        self,
        bounds: Bounds,
        observer: GateObserver,
        *,
        clock: Callable[[], float] = time.monotonic,
        random_unit: Chance = random.random,
        steer: Callable[[Wish], None] = lambda _: None,
    ) -> None:
        super().__init__()
        self._steer = steer
        self.clock = clock
        self.intake = Intake(bounds.prefetch)
        self.wish = Wish(False, bounds.prefetch)
        fixed = Pace(bounds.rate) if bounds.rate is not None else None
        self.lanes = {
            region: Lane(region, bounds, fixed or Pace(), observer, self.changed, clock, random_unit)
            for region in bounds.regions
        }
        self._observer = observer
        self._limit = 0
        self._again: asyncio.TimerHandle | None = None

    def permit(self, migration: MigrationRequest) -> "Permit":
        """Leave to make one call. Entering raises GateClosedError once closed, else perhaps StepAsideError."""
        return Permit(self, self.lanes[migration.region], migration)

    def close(self) -> None:
        """Let no further call begin, and send away whoever waits."""
        super().close()
        self._forget_timer()
        for lane in self.lanes.values():
            lane.close()

    def changed(self) -> None:
        """Think again about what is to be taken in."""
        self._forget_timer()
        if self.is_closed:
            return
        now = self.clock()
        was, self.wish = self.wish, self.intake.wish([_seen(lane, now) for lane in self.lanes.values()], now)
        if self.wish.again_in < inf:
            self._again = asyncio.get_running_loop().call_later(self.wish.again_in, self.changed)
        if (was.is_paused, was.prefetch) != (self.wish.is_paused, self.wish.prefetch):
            self._steer(self.wish)
        for lane in self.lanes.values():
            if lane.breaker.is_open and not self.wish.is_paused:
                lane.line.keep(PROBES)  # the others' hands are for those who can go
        limit = sum(lane.limit.value for lane in self.lanes.values())
        if limit != self._limit:
            self._limit = limit
            self._observer.limited(limit)

    def _forget_timer(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None


def _seen(lane: Lane, now: float) -> Region:
    probe_in = lane.breaker.wait(now) if lane.breaker.is_open else None
    return Region(lane.limit.value, len(lane.line), lane.in_use, probe_in, now - lane.used_at)


class Permit(Call):
    """Leave to make one call, by its region's lane."""

    __slots__ = ("_gate", "_has_ended", "_lane")

    def __init__(self, gate: Gate, lane: Lane, migration: MigrationRequest) -> None:
        super().__init__(migration)
        self._gate = gate
        self._lane = lane
        self._has_ended = False

    async def __aenter__(self) -> Self:
        gate, lane = self._gate, self._lane
        if gate.is_closed:
            raise GateClosedError
        now, before = gate.clock(), lane.used_at
        lane.used_at = now
        if now - before >= LATELY:
            gate.changed()  # what was taken in so far was for the other regions
        if lane.tenants.known or lane.line or lane.offer(self, now) > 0.0:
            await self._wait(now)
        gate.in_use += 1
        return self

    async def _wait(self, now: float) -> None:
        gate, lane, until = self._gate, self._lane, now + PATIENCE
        tenant = lane.tenants.arrived(self.migration.project_id, self.migration.key, now)
        try:
            while True:
                if tenant is not None:
                    await lane.own_turn(self, until, tenant, gate.intake.prefetch)
                if lane.line or lane.offer(self, gate.clock()) > 0.0:
                    await lane.turn(self, until, is_crowded=not gate.wish.is_paused)
                tenant = lane.tenants.known.get(self.migration.project_id)
                if gate.is_closed or tenant is None or self.knows(tenant):
                    break
                lane.leave(self, has_ended=False)  # its project came into trouble while it waited
        except StepAsideError:
            if gate.is_closed:
                raise GateClosedError from None
            raise
        if gate.is_closed:
            lane.leave(self, has_ended=False)
            raise GateClosedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate.in_use -= 1
        self._lane.leave(self, has_ended=self._has_ended)

    def ended(self, ending: TaskCreated | LookupResult | CallError) -> None:
        """Tell how the call went."""
        self._has_ended = True
        learn(self._lane, self, ending)

"""The throttle in front of the service: may this call begin now?

One `RegionThrottle` per region; `Throttle` holds them all, with what they share. The decisions are in
`worker.policy.throttle`; here permits wait, results are learnt from, and probes are sent.
Long on purpose: regions and what they share call each other at every step.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, Final, TypeVar

from worker.pipeline.closing import Closing
from worker.pipeline.ports import Chance, ThrottleObserver
from worker.pipeline.wait_queue import WaitQueue
from worker.policy import error_table
from worker.policy.call_result import (
    CallError,
    CallStatus,
    ErrorKind,
    ErrorScope,
    LookupResult,
    PostponedError,
    TaskCreated,
    ThrottleClosedError,
)
from worker.policy.migration_request import MigrationRequest
from worker.policy.retry_policy import ThrottleSettings
from worker.policy.throttle.circuit_breaker import BreakerState, CircuitBreaker
from worker.policy.throttle.concurrency_limit import ConcurrencyLimit
from worker.policy.throttle.hold import CREDENTIALS_TIMES, REGION_TIMES, Hold
from worker.policy.throttle.prefetch import fitting_prefetch
from worker.policy.throttle.project_hold import CREDENTIALS, QUOTA, RETURNING, ProjectHold, RetrySpread
from worker.policy.throttle.rate_limiter import RateLimiter

MAX_PERMIT_WAIT_SECONDS: Final = 60.0
"""That a request waits in hand for a permit."""
PROJECTS: Final = 1000
"""That are remembered per region."""
_REFUSALS: Final = (ErrorScope.CREDENTIALS, ErrorScope.REGION)

Result = TaskCreated | LookupResult | CallError
V = TypeVar("V")


@dataclass(slots=True, eq=False)
class Permit:
    """Permit for the calls of one attempt, look and create."""

    region: "RegionThrottle"
    migration: MigrationRequest
    calls: int
    """That are taken from the rate limiter and not made yet."""
    passed: Collection[Hold]
    """Holds that ended since they were checked for this request."""
    suspect: Hold | None = None
    """The hold whose probe decides whether the refused request is tried once more."""
    project: ProjectHold | None = None
    is_probe: bool = False
    generation: int = 0
    given_at: float = 0.0
    began: float = 0.0
    is_answered: bool = False
    is_failed: bool = False

    def begin_call(self) -> None:
        """A call begins. Calls beyond those that the permit was asked for are owed."""
        self.began, self.calls = self.region.clock(), self.calls - 1
        if self.calls < 0:
            self.calls = 0
            for limiter in (self.region.limiter, *((self.project.limiter,) if self.project else ())):
                limiter.take(1, self.began)

    def ended(self, result: Result) -> None:
        """A call, or a look of several calls, ended."""
        self.region.learn(self, result)


class RegionThrottle:
    """One region: its parts, the permits that are out, and those that are waited for."""

    def __init__(self, name: str, settings: ThrottleSettings, limiter: RateLimiter, throttle: "Throttle") -> None:
        self.name, self.clock = name, throttle.clock
        self.breaker = CircuitBreaker()
        self.limit = ConcurrencyLimit(settings.prefetch, settings.deadline)
        self.limiter = limiter
        self.hold = Hold("region", (ErrorScope.REGION,), REGION_TIMES)
        self.projects: dict[str, ProjectHold] = {}
        self.queue: WaitQueue[Permit] = WaitQueue(self._offer, self.leave, throttle.clock)
        self.in_use = 0
        self.good_project = ""
        """The project that last succeeded; empty if a probe of it was refused since."""
        self._throttle, self._delays, self._spread = throttle, settings.delays, RetrySpread(settings.delays)
        self._seen: dict[str, float] = {}
        """Projects that requests came for, and when they were refused or probed last."""
        self._others_at = -inf

    def __repr__(self) -> str:
        return f"<RegionThrottle {self.name}: {self.in_use} in use, {len(self.queue)} waiting, {self.breaker!r}>"

    async def enter(self, permit: Permit) -> None:
        """Wait until the permit is given out. Raises ThrottleClosedError or PostponedError."""
        self._throttle.check_open()
        now, project = self.clock(), permit.migration.project_id
        self._remember(self._seen, project, self._seen.get(project, -inf))
        if (error := self._postponed(permit, now)) is not None:
            raise error
        if project not in self.projects:
            self._others_at = now
        if len(self.queue) or self._offer(permit, now)[0] > 0.0:
            why = "turn" if self.breaker.state is BreakerState.CLOSED else "breaker"
            try:
                async with asyncio.timeout(MAX_PERMIT_WAIT_SECONDS):
                    await self.queue.wait(permit, is_first=bool(permit.passed))  # one that is tried once more
            except TimeoutError:
                raise PostponedError(0.0, why) from None
            if self._throttle.is_closed:  # in the moment of its turn
                self.leave(permit)
                raise ThrottleClosedError

    def leave(self, permit: Permit) -> None:
        """The permit is given back."""
        self.in_use -= 1
        self._throttle.in_use -= 1
        self.limiter.give_back(permit.calls, permit.given_at)
        if permit.project is not None:
            permit.project.end(permit.calls, permit.given_at, is_probe=permit.is_probe)
        if permit.is_answered and not permit.is_failed and self.breaker.succeeded(permit.generation):
            self._note("warning", "breaker.closed", seconds=round(self.clock() - self.breaker.since, 1))
            self._throttle.observer.breaker(self.name, self.breaker.state)
        self._throttle.wake() if not self._throttle.are_credentials_accepted else self.queue.wake()

    def _offer(self, permit: Permit, now: float) -> tuple[float, bool]:
        """Give the permit out if it is possible; see `WaitQueue`."""
        throttle = self._throttle
        if self.in_use >= self.limit.value or (throttle.in_use and not throttle.are_credentials_accepted):
            return inf, True
        if self.breaker.is_blocking or self.hold.is_blocking or throttle.credentials.is_blocking:
            return inf, True
        if (wait := self.limiter.wait(permit.calls, now)) > 0.0:
            return wait, True
        permit.project = self.projects.get(permit.migration.project_id)
        if permit.project is not None:
            if (wait := permit.project.wait(permit.calls, now)) > 0.0:
                return wait, False
            permit.is_probe = permit.project.begin(permit.calls, now)
        self.in_use += 1
        throttle.in_use += 1
        self.limiter.take(permit.calls, now)
        permit.given_at, permit.generation = now, self.breaker.generation
        return 0.0, False

    def _postponed(self, permit: Permit, now: float, waiting: Counter[str] | None = None) -> PostponedError | None:
        """The error for a request that would wait for long, or keep others from being worked on, if it is one.

        `waiting`: how many requests of each project wait before it, by default all that wait.
        """
        for part in (self._throttle.credentials, self.hold):
            if part.is_held and not part.is_probing:
                return self.postponed_by(part)
        if self.breaker.is_blocking and not self._throttle.paused_by:
            return self.postponed_by(self.breaker)
        project = permit.migration.project_id
        if (known := self.projects.get(project)) is None:
            return None
        before = sum(p.migration.project_id == project for p in self.queue) if waiting is None else waiting[project]
        postponed = known.postpone(before, self._throttle.prefetch, self._others_at, now)
        return PostponedError(*postponed) if postponed is not None else None

    def postponed_by(self, part: CircuitBreaker | Hold) -> PostponedError:
        """The error for a request that waits in the broker for the next probe of a part."""
        now, why = self.clock(), CREDENTIALS if part.kind == "project" else part.kind
        return PostponedError(self._spread.choose(RETURNING, part.probes.at - now, now), why)

    def make_room(self) -> None:
        """Postpone waiting requests that have to wait for long by now."""
        waiting, now = Counter[str](), self.clock()

        def error_of(permit: Permit) -> PostponedError | None:
            error = self._postponed(permit, now, waiting)
            waiting[permit.migration.project_id] += 1
            return error

        self.queue.remove(error_of)

    def learn(self, permit: Permit, result: Result) -> None:
        """A call under the permit ended."""
        now, limit, scope = self.clock(), self.limit.value, error_table.scope(result)
        if isinstance(result, CallError) and result.kind is ErrorKind.THROTTLED:
            self._throttled(permit, result, scope, now)
        elif isinstance(result, CallError) and scope is ErrorScope.SERVICE:
            self._failed(permit, result, now)
        elif isinstance(result, CallError) and scope in _REFUSALS:
            self._suspect(permit, result, scope, now)
        elif scope is not None:
            self._answered(permit, result, scope, now)
        if self.limit.value != limit:
            self._throttle.refit()

    def _answered(self, permit: Permit, result: Result, scope: ErrorScope, now: float) -> None:
        """The service works, and accepts the credentials."""
        permit.is_answered = True
        self.limiter.granted()
        self.limit.answered(permit.began, now, self.in_use)
        self._throttle.accept_credentials()
        project, is_error = permit.migration.project_id, isinstance(result, CallError)
        if isinstance(result, CallError) and scope is ErrorScope.PROJECT:
            reason = QUOTA if result.kind is ErrorKind.CAPACITY else CREDENTIALS
            if self._known(project).refused(reason, permit.migration.key, now, self._throttle.random_unit()):
                self._note("warning", "project.held", project_id=project, why=reason, **_said(result))
                self.make_room()
            return
        self.good_project = project
        if (known := self.projects.get(project)) is not None:
            if known.accepted(is_created=isinstance(result, TaskCreated), is_judged=is_error):
                self._note("warning", "project.released", project_id=project)
            if known.is_idle(now):
                del self.projects[project]

    def _failed(self, permit: Permit, error: CallError, now: float) -> None:
        permit.is_failed = True
        if error.status is CallStatus.TIMEOUT:
            self.limit.overloaded(permit.began, now)
        level, event = ("warning", "probed") if self.breaker.state is BreakerState.HALF_OPEN else ("error", "opened")
        if self.breaker.failed(permit.generation, permit.migration.key, now, self._throttle.random_unit()):
            next_probe = round(self.breaker.probes.at - now, 1)
            self._note(level, f"breaker.{event}", next_probe=next_probe, **_said(error))
            self._throttle.observer.breaker(self.name, self.breaker.state)
            self.limit.restart(now)
            self._throttle.begin_probing(Prober(self.breaker, self), error)

    def _throttled(self, permit: Permit, error: CallError, scope: ErrorScope | None, now: float) -> None:
        project = self._known(permit.migration.project_id) if scope is ErrorScope.PROJECT else None
        limiter, is_new = (project or self).limiter, (project or self).limiter.rate is None
        if (project or limiter).throttled(permit.began, now, error.throttle, error.retry_after):
            self.make_room() if project else self.limit.overloaded(permit.began, now)
        if is_new and limiter.rate is not None:
            whose = {"project_id": permit.migration.project_id} if project else {}
            self._note("info", "calls.paced", per_second=round(limiter.rate, 2), quota=limiter.named, **whose)

    def _suspect(self, permit: Permit, error: CallError, scope: ErrorScope, now: float) -> None:
        """Credentials or endpoint were refused: a probe tells whether for every request, or for this one."""
        project, known = permit.migration.project_id, self.projects.get(permit.migration.project_id)
        own = known.own if known is not None else None
        is_region = scope is ErrorScope.REGION
        hold = own or (self.hold if is_region else self._throttle.credentials)
        if hold in permit.passed:  # refused again: the request is at fault, and what follows concerns its project
            self._known(project).own = Hold("project", _REFUSALS, REGION_TIMES if is_region else CREDENTIALS_TIMES)
            return
        permit.suspect = hold
        self._seen[project] = now  # the last one to be probed
        if hold.refused(error.message, now, error_table.asked_wait(error)):
            self._throttle.begin_probing(Prober(hold, self, project if own is not None else ""), error)

    def project_to_probe(self) -> str:
        """The project that last succeeded, else those that requests came for, in turn."""
        project = self.good_project or min(self._seen, key=lambda project: self._seen[project])
        self._seen[project] = self.clock()
        return project

    def _known(self, project: str) -> ProjectHold:
        return self.projects.get(project) or self._remember(self.projects, project, ProjectHold(self._delays))

    def _remember(self, memory: dict[str, V], project: str, value: V) -> V:
        """Keep what is known of a project; beyond the bound the oldest is forgotten."""
        if project not in memory and len(memory) >= PROJECTS:
            del memory[next(iter(memory))]
        memory[project] = value
        return value

    def _note(self, level: str, event: str, **fields: Any) -> None:
        self._throttle.observer.note(level, event, region=self.name, **fields)


class Prober:
    """What a breaker or a hold needs while it blocks. `project`: the only one that is probed."""

    def __init__(self, part: CircuitBreaker | Hold, region: RegionThrottle, project: str = "") -> None:
        self.part, self.region, self.project = part, region, project
        self.timer: asyncio.TimerHandle | None = None
        self.checked = asyncio.Event()
        """Set once the first probe has ended."""


class Throttle(Closing):
    """The throttle of one replica. `clock` is the one that the event loop's timers go by.

    `probe` makes a list call in a project and a region, for no request. `steer` gets the prefetch and what pauses
    consumption (`breaker`, `held` or nothing), whenever one of them changes.
    """

    def __init__(
        self,
        settings: ThrottleSettings,
        probe: Callable[[str, str], Awaitable[Result]],
        observer: ThrottleObserver,
        steer: Callable[[int, str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        random_unit: Chance = random.random,
    ) -> None:
        super().__init__()
        self.clock, self.observer, self.random_unit = clock, observer, random_unit
        self.in_use = 0
        self.credentials = Hold("credentials", (ErrorScope.CREDENTIALS,), CREDENTIALS_TIMES)
        self.are_credentials_accepted = self._has_succeeded = False
        """Until a call was accepted, one call with the credentials is under way at a time."""
        self.prefetch, self.paused_by, self._ceiling = settings.prefetch, "", settings.prefetch
        self._probe, self._steer = probe, steer
        self._probers: dict[object, Prober] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        fixed = RateLimiter(settings.rate) if settings.rate is not None else None
        self.regions = {name: RegionThrottle(name, settings, fixed or RateLimiter(), self) for name in settings.regions}
        self.refit()

    def __repr__(self) -> str:
        return f"<Throttle: {'closed' if self.is_closed else 'open'}, {self.in_use} in use>"

    @asynccontextmanager
    async def permit(
        self, migration: MigrationRequest, calls: int, passed: Collection[Hold] = ()
    ) -> AsyncIterator[Permit]:
        """A permit for so many calls. Raises ThrottleClosedError or PostponedError if there is none to be had."""
        permit = Permit(self.regions[migration.region], migration, calls, passed)
        await permit.region.enter(permit)
        try:
            yield permit
        finally:
            permit.region.leave(permit)

    async def verdict(self, hold: Hold) -> None:
        """Wait for the probe that checks a hold. Raises PostponedError if the probe is not accepted."""
        if (prober := self._probers.get(hold)) is not None:
            await prober.checked.wait()
            self.check_open()
            if hold.is_blocking:
                raise prober.region.postponed_by(hold)

    def close(self) -> None:
        """Let no further call begin, and send away all that wait."""
        super().close()
        for prober in self._probers.values():
            prober.checked.set()
            self._schedule(prober)
        for task in self._tasks:
            task.cancel()
        for region in self.regions.values():
            region.queue.remove(lambda _: ThrottleClosedError())

    def wake(self) -> None:
        """Give out the permits that may be given out."""
        for region in self.regions.values():
            region.queue.wake()

    def refit(self) -> None:
        """Take in as much as the regions can do, and nothing while none of them can do anything."""
        before, regions = (self.prefetch, self.paused_by), list(self.regions.values())
        limit = sum(region.limit.value for region in regions)
        self.prefetch = fitting_prefetch(self.prefetch, limit, self._ceiling)
        is_idle = self.credentials.is_held or all(part.breaker.is_blocking or part.hold.is_held for part in regions)
        # As long as no call has succeeded, those of another project may: its requests must come in to be known.
        why = "breaker" if any(part.breaker.is_blocking for part in regions) else "held" if self._has_succeeded else ""
        self.paused_by = why if is_idle else ""
        if before != (self.prefetch, self.paused_by) and not self.is_closed:
            self._steer(self.prefetch, self.paused_by)
        self.observer.limited(limit)

    def accept_credentials(self) -> None:
        """A call was accepted."""
        if not self.are_credentials_accepted:
            self.are_credentials_accepted = self._has_succeeded = True
            self.wake()

    def credentials_changed(self) -> None:
        """The credentials were replaced: those that were refused are probed at once."""
        self.are_credentials_accepted = False
        for prober in self._probers.values():
            if prober.part.kind in ("credentials", "project"):
                prober.part.probes.reset(self.clock())
                self._schedule(prober)

    def begin_probing(self, prober: Prober, error: CallError) -> None:
        """Send probes as long as a part blocks."""
        self._probers[prober.part] = prober
        self._settle(prober, "held" if prober.part.is_held and prober.part.kind != "breaker" else "", error)

    def _settle(self, prober: Prober, event: str, error: CallError | None = None) -> None:
        """A part began to block, was probed, or blocks no more."""
        part, region = prober.part, prober.region
        if event:
            times = {"next_probe": round(part.probes.at - self.clock(), 1)} if part.is_blocking else {}
            level = "error" if event == "held" else "warning"
            self.observer.note(level, f"{part.kind}.{event}", region=region.name, **times, **_said(error))
        if part.is_held or not part.is_blocking:
            prober.checked.set()
        if not part.is_blocking:
            del self._probers[part]
        self._schedule(prober)
        self.refit()
        for other in self.regions.values():
            other.make_room()
        asyncio.get_running_loop().call_soon(self.wake)  # after those that waited for the probe

    def _schedule(self, prober: Prober) -> None:
        if prober.timer is not None:
            prober.timer.cancel()
        if prober.part.is_blocking and not self.is_closed:
            wait = max(0.0, prober.part.probes.at - self.clock())
            prober.timer = asyncio.get_running_loop().call_later(wait, self._send_probe, prober)

    def _send_probe(self, prober: Prober) -> None:
        """Send one, whether or not the one before has ended: a service that hangs may have recovered since."""
        prober.part.probes.schedule(self.clock(), self.random_unit())
        if isinstance(prober.part, Hold):
            prober.part.is_probing = True
        task = asyncio.get_running_loop().create_task(self._judge_probe(prober))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._schedule(prober)

    async def _judge_probe(self, prober: Prober) -> None:
        part, region = prober.part, prober.region
        result = await self._probe(prober.project or region.project_to_probe(), region.name)
        if self.is_closed or self._probers.get(part) is not prober:
            return
        is_refused, error, was_held = error_table.is_probe_refused(result, part.scopes), None, part.is_held
        if isinstance(result, CallError):
            error, wait = result, error_table.asked_wait(result)
            part.probe_ended(is_refused, result.message, self.clock(), wait)
        else:
            part.probe_ended(is_refused, "", self.clock(), 0.0)
        event = ("probed" if was_held else "held") if part.is_blocking else "released" if was_held else ""
        if isinstance(part, Hold):
            region.good_project = "" if is_refused else region.good_project
            has_ended = part is self.credentials and event == "released"
            self.are_credentials_accepted = self.are_credentials_accepted and not has_ended
        elif event == "released":
            self.observer.breaker(region.name, part.state)
            event = ""
        self._settle(prober, event, error)


def _said(error: CallError | None) -> dict[str, str]:
    """What the service said, for a line of the log."""
    return {"label": error.label, "message": error.message} if error is not None else {}

"""Throttle in front of the service: may this call begin now?

`Throttle` has one `RegionThrottle` per region, and what they share: credentials, prefetch, probes. The parts in
`worker.policy.throttle` decide; here requests wait for permits, the parts learn from results, and probes are sent.
Long on purpose: regions and what they share call each other at every step.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import inf
from operator import attrgetter
from typing import Any, Final

from worker.pipeline.ports import CallOwner, Chance, ThrottleObserver
from worker.pipeline.probes import Part, Probes
from worker.pipeline.wait_queue import WaitQueue
from worker.policy import call_result, error_table, health
from worker.policy.backoff import RETURN_RATE, RetrySpread
from worker.policy.call_result import CallError, CallResult, ErrorKind, ErrorScope, PostponedError, ThrottleClosedError
from worker.policy.retry_policy import ThrottleSettings
from worker.policy.throttle.circuit_breaker import CircuitBreaker
from worker.policy.throttle.concurrency_limit import ConcurrencyLimit, fitting_prefetch
from worker.policy.throttle.hold import CREDENTIALS_TIMES, REGION_TIMES, Hold
from worker.policy.throttle.project_hold import CREDENTIALS, QUOTA, THROTTLED, ProjectHold, SharedLimit
from worker.policy.throttle.rate_limiter import MAX_RATE_WAIT_SECONDS, RateLimiter

MAX_PERMIT_WAIT_SECONDS: Final = 60.0
"""That a request waits in hand for a permit."""
PROJECTS: Final = 1000
"""That are remembered per region; beyond it the oldest is forgotten."""
_REFUSALS: Final = (ErrorScope.CREDENTIALS, ErrorScope.REGION)
_WAITS_ALIKE: Final = attrgetter("migration.project_id", "calls")
_REPORTS: Final = {
    "opened": ("error", "opened", "DCS fails, so no call is made"),
    "closed": ("info", "closed", "DCS answers again"),
    "held": ("error", "rejected", "every call is refused"),
    "released": ("info", "accepted", "calls are accepted again"),
    "probed": ("warning", "probe_failed", "the probe failed"),
}
"""What becomes of a part: level, verb and sentence of its log line."""
_PROJECT_VERBS: Final = {"rejected": "paused", "accepted": "resumed"}


@dataclass(slots=True, eq=False)
class Permit:
    """Permit for the calls of one attempt, look-up and create. `calls`: taken from the rate limiters, not made yet."""

    region: "RegionThrottle"
    migration: CallOwner
    calls: int
    ended_holds: Collection[Hold]
    """Holds that ended since they were checked for this request."""
    is_spare: bool = False
    """It is granted only if no request waits, and its project is not throttled."""
    checked_hold: Hold | None = None
    """The hold whose probe decides whether the refused request is tried once more."""
    limiters: tuple[RateLimiter, ...] = ()
    probed_project: ProjectHold | None = None
    generation: int = 0
    granted_at: float = 0.0
    call_began_at: float = 0.0
    is_answered: bool = False
    is_failed: bool = False

    def begin_call(self) -> None:
        """A call begins. Calls beyond those that the permit was asked for are owed."""
        self.call_began_at = self.region.clock()
        if not self.calls:
            for limiter in self.limiters:
                limiter.take(1, self.call_began_at)
        self.calls = max(0, self.calls - 1)

    def spacing(self) -> float:
        """Seconds between look-up and create."""
        return max(limiter.spacing() for limiter in self.limiters)

    def ended(self, result: CallResult) -> None:
        """A call, or a look-up of several calls, ended."""
        self.region.learn(self, result)


class RegionThrottle:
    """One region: its parts, the permits that are in use, and those that are waited for."""

    def __init__(self, name: str, settings: ThrottleSettings, limiter: RateLimiter, throttle: "Throttle") -> None:
        self.name, self.clock, self._throttle, self._delays = name, throttle.clock, throttle, settings.delays
        self.breaker, self.limiter = CircuitBreaker(), limiter
        self.limit = ConcurrencyLimit(settings.prefetch, settings.deadline)
        self.hold = Hold("region", (ErrorScope.REGION,), REGION_TIMES)
        self._spread = RetrySpread(settings.delays)
        self.projects: dict[str, ProjectHold] = {}
        self.shared = SharedLimit()
        self.queue: WaitQueue[Permit] = WaitQueue(self._try_grant, self.leave, _WAITS_ALIKE, throttle.clock)
        self.in_use = 0
        self.good_project = ""
        """The project that last succeeded; empty if a probe of it was not accepted since."""
        self.seen: dict[str, float] = {}
        """Projects that requests or watches came for, and when they were refused or probed last."""
        self._others_at = -inf
        """When a request of a project that is in no trouble came last."""

    def __repr__(self) -> str:
        return f"<RegionThrottle {self.name}: {self.in_use} in use, {len(self.queue.items)} waiting, {self.breaker!r}>"

    async def enter(self, permit: Permit) -> None:
        """Wait until the permit is granted. Raises ThrottleClosedError or PostponedError."""
        self._throttle.check_open()
        project = permit.migration.project_id
        _remember(self.seen, project, self.seen.get(project, -inf))
        if permit.is_spare:
            known, now = self.projects.get(project), self.clock()
            is_throttled = known is not None and known.why(now) == THROTTLED
            if self.queue.items or is_throttled or self._try_grant(permit, now)[0]:
                raise PostponedError(0.0, "turn")
            return
        if (error := self._postponed(permit)) is not None:
            raise error
        if project not in self.projects:
            self._others_at = self.clock()
        if self.queue.items or self._try_grant(permit, self.clock())[0] > 0.0:
            try:
                async with asyncio.timeout(MAX_PERMIT_WAIT_SECONDS):
                    is_first = bool(permit.ended_holds) or not permit.calls  # it is tried once more
                    await self.queue.wait(permit, is_first=is_first)
            except TimeoutError:
                raise PostponedError(0.0, "turn") from None
            if self._throttle.is_closed:  # in the moment of its turn
                self.leave(permit)
                raise ThrottleClosedError

    def _try_grant(self, permit: Permit, now: float) -> tuple[float, bool]:
        """Grant the permit if it is possible; see `WaitQueue`."""
        throttle, project = self._throttle, self.projects.get(permit.migration.project_id)
        if self.in_use >= self.limit.value or (throttle.in_use and not throttle.are_credentials_accepted):
            return inf, True
        if self.breaker.is_blocking or self.hold.is_blocking or throttle.credentials.is_blocking:
            return inf, True
        if (wait := self.limiter.wait(permit.calls, now)) > 0.0:
            return wait, True
        permit.limiters = (self.limiter,)
        if project is not None:
            if (wait := project.wait(permit.calls, now)) > 0.0:
                return wait, False
            permit.limiters = (self.limiter, *project.limiters)
            permit.probed_project = project if project.begin() else None
        for limiter in permit.limiters:
            limiter.take(permit.calls, now)
        self.in_use += 1
        throttle.in_use += 1
        permit.granted_at, permit.generation = now, self.breaker.generation
        return 0.0, False

    def leave(self, permit: Permit) -> None:
        """The permit is given back."""
        self.in_use -= 1
        self._throttle.in_use -= 1
        for limiter in permit.limiters:
            limiter.give_back(permit.calls, permit.granted_at)
        if permit.probed_project is not None:
            permit.probed_project.end_probe()
        if permit.is_answered and not permit.is_failed and (event := self.breaker.succeeded(permit.generation)):
            self._throttle.report(self.breaker, self, event)
        if not self._throttle.are_credentials_accepted:
            self._throttle.wake(last=self)
        elif self.queue.items:
            self.queue.wake()

    def _postponed(self, permit: Permit) -> PostponedError | None:
        """The error for a request that would wait for long, or keep others from being worked on, if it is one."""
        throttle, project = self._throttle, permit.migration.project_id
        for hold in (throttle.credentials, self.hold):
            if hold.is_held and not hold.is_probing:
                throttle.stop_sampling()
                return throttle.postponed_by(hold)
        if self.breaker.is_blocking and not throttle.paused_by:
            return throttle.postponed_by(self.breaker)
        if len(throttle.regions) > 1 and not self.limiter.is_fixed:  # else none can be faster
            wait, rate = self.limiter.wait(permit.calls, self.clock()), self.limiter.rate or RETURN_RATE
            if wait + self._waiting(permit) / rate > MAX_RATE_WAIT_SECONDS:
                return PostponedError(self._spread.choose(rate / 2, wait, self.clock()), THROTTLED)
        if (known := self.projects.get(project)) is None:
            return None
        postponed = known.postpone(self._waiting(permit, project), throttle.prefetch, self._others_at, self.clock())
        return PostponedError(*postponed) if postponed is not None else None

    def _waiting(self, permit: Permit, project: str = "") -> int:
        """How many others wait for a permit, for this project or for any."""
        return sum(
            other is not permit and project in ("", other.migration.project_id) for other in self.queue.items.values()
        )

    def make_room(self) -> None:
        """Postpone waiting requests that have to wait for long by now."""
        self.queue.remove(self._postponed)

    def learn(self, permit: Permit, result: CallResult) -> None:
        """A call under the permit ended."""
        now, limit = self.clock(), self.limit.value
        if not isinstance(result, CallError):
            self._answered(permit, result, ErrorScope.REQUEST, now)
        elif (scope := error_table.scope(result)) is None:
            return
        elif result.kind is ErrorKind.THROTTLED:
            self._throttled(permit, result, scope, now)
        elif scope is ErrorScope.SERVICE:
            self._failed(permit, result, now)
        elif scope in _REFUSALS:
            self._refused(permit, result, scope, now)
        else:
            self._answered(permit, result, scope, now)
        if self.limit.value != limit:
            self._throttle.adapt_consumption()

    def _answered(self, permit: Permit, result: CallResult, scope: ErrorScope, now: float) -> None:
        """The service works, and accepts the credentials."""
        permit.is_answered = True
        self.limiter.granted()
        self.limit.answered(permit.call_began_at, now, self.in_use)
        self._throttle.accept_credentials()
        project, is_created = permit.migration.project_id, isinstance(result, call_result.TaskCreated)
        if isinstance(result, CallError) and scope is ErrorScope.PROJECT:
            reason, refused = QUOTA if result.kind is ErrorKind.CAPACITY else CREDENTIALS, self._hold_of(project)
            refused.message = result.description
            if refused.refused(reason, permit.migration.key, now, self._throttle.random_unit()):
                message = f"Requests for project {project} wait ({reason}): {result.message}"
                fields = {"message": message, "project_id": project, "reason": reason, **_answer_fields(result)}
                self._note("warning", "project.paused", **fields)
                self.make_room()
            return
        self.good_project = project
        if (known := self.projects.get(project)) is not None:
            if known.accepted(is_created=is_created, is_judged=isinstance(result, CallError)):
                message = f"DCS accepts calls for project {project} again"
                self._note("info", "project.resumed", message=message, project_id=project)
            if known.is_idle(now):
                del self.projects[project]

    def _failed(self, permit: Permit, error: CallError, now: float) -> None:
        permit.is_failed, self.breaker.error = True, error
        if error.status is call_result.CallStatus.TIMEOUT:
            self.limit.overloaded(permit.call_began_at, now)
        random_unit, is_foreign = self._throttle.random_unit(), error_table.is_foreign(error)
        event = self.breaker.failed(permit.generation, permit.migration.key, now, random_unit, is_foreign=is_foreign)
        if event:
            self.limit.restart(now)
            self._throttle.report(self.breaker, self, event, error)
            self._throttle.probes.begin(self.breaker, self)

    def _throttled(self, permit: Permit, error: CallError, scope: ErrorScope, now: float) -> None:
        project = self._hold_of(permit.migration.project_id) if scope is ErrorScope.PROJECT else None
        limiter, is_new = (project or self).limiter, (project or self).limiter.rate is None
        if (project or limiter).throttled(permit.call_began_at, now, error.throttle, error.retry_after):
            if project is None:
                self.limit.overloaded(permit.call_began_at, now)
            self.make_room()
        if is_new and limiter.rate is not None:
            whose = {"project_id": permit.migration.project_id} if project else {}
            rate, of = round(limiter.rate, 2), f"project {permit.migration.project_id}" if project else "this region"
            message = f"DCS limits the calls of {of}: {rate} per second from now on"
            self._note("info", "dcs.rate_limited", message=message, rate_per_second=rate, quota=limiter.named, **whose)

    def _refused(self, permit: Permit, error: CallError, scope: ErrorScope, now: float) -> None:
        """Credentials or endpoint were refused: a probe tells whether for every request, or for this one."""
        project, known = permit.migration.project_id, self.projects.get(permit.migration.project_id)
        is_region, own = scope is ErrorScope.REGION, known.own if known is not None else None
        hold = own or (self.hold if is_region else self._throttle.credentials)
        if hold in permit.ended_holds:  # refused again: the request is at fault, and what follows concerns its project
            self._hold_of(project).own = Hold("project", _REFUSALS, REGION_TIMES if is_region else CREDENTIALS_TIMES)
            return
        permit.checked_hold = hold
        self.seen[project] = now  # the last one to be probed
        if hold.refused(error, now):
            self._throttle.report(hold, self, "held" if hold.is_held else "", error)
            self._throttle.probes.begin(hold, self, project if own is not None else "")

    def _hold_of(self, project: str) -> ProjectHold:
        if (known := self.projects.get(project)) is None:
            _remember(self.projects, project, known := ProjectHold(self._delays, self.shared))
        return known

    def _note(self, level: str, event: str, **fields: Any) -> None:
        self._throttle.observer.note(level, event, region=self.name, **fields)


class Throttle:
    """The throttle of one replica. `clock` is the one that the event loop's timers go by.

    `probe` makes a list call in a project and a region, for no request. `set_consumption` gets the prefetch and what
    pauses consumption (`breaker`, `credentials`, `region` or nothing), whenever one of them changes.
    """

    def __init__(
        self,
        settings: ThrottleSettings,
        probe: Callable[[str, str], Awaitable[CallResult]],
        observer: ThrottleObserver,
        set_consumption: Callable[[int, str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        random_unit: Chance = random.random,
    ) -> None:
        self.clock, self.observer, self.random_unit = clock, observer, random_unit
        self._probe, self._set_consumption = probe, set_consumption
        self.in_use = 0
        self.credentials = Hold("credentials", (ErrorScope.CREDENTIALS,), CREDENTIALS_TIMES)
        self.are_credentials_accepted = self._has_succeeded = False
        """Until a call was accepted, one call with the credentials is under way at a time."""
        self._is_sampling = True
        """Whether requests come in although calls are held: their project may be one that is accepted."""
        self.prefetch, self.paused_by, self._ceiling = settings.prefetch, "", settings.prefetch
        self._spread = RetrySpread(settings.delays)
        self._closed = asyncio.Event()
        self.probes: Probes[RegionThrottle] = Probes(self._send_probe, self._probe_ended, clock, random_unit)
        fixed = RateLimiter(settings.rate) if settings.rate is not None else None
        self.regions = {name: RegionThrottle(name, settings, fixed or RateLimiter(), self) for name in settings.regions}
        self.adapt_consumption()

    def __repr__(self) -> str:
        return f"<Throttle: {'closed' if self.is_closed else 'open'}, {self.in_use} in use>"

    @asynccontextmanager
    async def permit(
        self, migration: CallOwner, calls: int, ended_holds: Collection[Hold] = (), *, is_spare: bool = False
    ) -> AsyncIterator[Permit]:
        """A permit for so many calls. Raises ThrottleClosedError or PostponedError if there is none to be had."""
        permit = Permit(self.regions[migration.region], migration, calls, ended_holds, is_spare)
        await permit.region.enter(permit)
        try:
            yield permit
        finally:
            permit.region.leave(permit)

    @property
    def is_closed(self) -> bool:
        """True once the replica drains."""
        return self._closed.is_set()

    def check_open(self) -> None:
        """Raise ThrottleClosedError once the replica drains."""
        if self.is_closed:
            raise ThrottleClosedError

    async def wait_unless_closed(self, seconds: float) -> bool:
        """Wait between two attempts; False as soon as the replica drains."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        return not self.is_closed

    def close(self) -> None:
        """Let no further call begin, and send away all that wait."""
        self._closed.set()
        self.probes.close()
        self.send_away("drain")

    def send_away(self, why: str) -> None:
        """Send away all that wait for a permit, to be handed back; those that come later may wait."""
        for region in self.regions.values():
            region.queue.remove(lambda _: ThrottleClosedError(why))

    def wake(self, last: RegionThrottle | None = None) -> None:
        """Grant the permits that may be granted. `last`: the region whose turn it is last."""
        for region in sorted(self.regions.values(), key=lambda region: region is last):
            region.queue.wake()

    def adapt_consumption(self) -> None:
        """Take in as much as the regions can do, and nothing while none of them can do anything."""
        before, regions = (self.prefetch, self.paused_by), list(self.regions.values())
        limit = sum(region.limit.value for region in regions)
        self.prefetch = fitting_prefetch(self.prefetch, limit, self._ceiling)
        is_idle = self.credentials.is_held or all(part.breaker.is_blocking or part.hold.is_held for part in regions)
        held = "" if self._is_sampling else "credentials" if self.credentials.is_held else "region"
        why = "breaker" if any(part.breaker.is_blocking for part in regions) else held
        self.paused_by = why if is_idle else ""
        if before != (self.prefetch, self.paused_by) and not self.is_closed:
            self._set_consumption(self.prefetch, self.paused_by)
        self.observer.limited(limit)

    def accept_credentials(self) -> None:
        """A call was accepted."""
        if not self.are_credentials_accepted:
            self.are_credentials_accepted = self._has_succeeded = True
            self.wake()

    def stop_sampling(self) -> None:
        """A request came in, and is postponed by a hold."""
        error = self.credentials.error
        is_without_any = error is not None and error.http_status is None  # IAM or the platform gives none
        # Else all requests come in: the project of any of them may be accepted.
        if self._is_sampling and (self._has_succeeded or is_without_any):
            self._is_sampling = False
            self.adapt_consumption()

    def credentials_changed(self) -> None:
        """The credentials were replaced: those that were refused are probed at once."""
        self.are_credentials_accepted = False
        self.probes.send_now(("credentials", "project"))

    def postponed_by(self, part: Part) -> PostponedError:
        """The error for a request that waits in the broker for the next probe of a part."""
        now, why = self.clock(), CREDENTIALS if part.kind == "project" else part.kind
        return PostponedError(self._spread.choose(RETURN_RATE, part.probes.at - now, now), why)

    async def wait_for_probe(self, hold: Hold) -> None:
        """Wait for the probe that checks a hold. Raises PostponedError if the probe is not accepted."""
        await self.probes.wait_for_first(hold)
        self.check_open()
        if hold.is_held:
            raise self.postponed_by(hold)

    def report(self, part: Part, region: RegionThrottle, event: str, error: CallError | None = None) -> None:
        """Report what became of a part, if it is worth a line, and adapt to it."""
        since, left = round(self.clock() - part.since, 1), round(part.probes.at - self.clock(), 1)
        if event:
            level, verb, sentence = _REPORTS[event]
            project = next((name for name, known in region.projects.items() if known.own is part), "")
            if part.kind == "project":
                level, verb = level.replace("error", "warning"), _PROJECT_VERBS.get(verb, verb)
            where = f"{part.kind} {project or f'of {region.name}'}"
            message = f"{where}: {sentence}, after {since:.0f} s"
            times = {"duration_seconds": since}
            if part.is_blocking:
                said = f" ({error.description})" if error is not None else ""
                cure = f". {health.remedy(error)}" if error is not None and event == "held" else ""
                message = f"{where}: {sentence}{said}; the next probe is in {left:.0f} s{cure}"
                times = {"retry_in_seconds": left}
            whose = {"region": region.name} | ({"project_id": project} if project else {})
            fields = {"message": message, **whose, **times, **_answer_fields(error)}
            self.observer.note(level, f"{part.kind}.{verb}", **fields)
        self.observer.breaker(region.name, region.breaker.state)
        self.adapt_consumption()
        for other in self.regions.values():
            other.make_room()

    async def _send_probe(self, part: Part, region: RegionThrottle, project: str) -> CallResult:
        """Probe the project that last succeeded, else those that requests came for, in turn.

        For credentials in all the regions that share them. A project whose probe says nothing (a 429, an outage) must
        not be the only one that is probed.
        """
        if project:  # held alone: its probe says nothing about others
            return await self._probe(project, region.name)
        regions = self.regions.values() if part is self.credentials else (region,)
        known = [(candidate, name) for candidate in regions for name in candidate.seen]
        region, project = min(known, key=lambda pair: (pair[1] != pair[0].good_project, pair[0].seen[pair[1]]))
        region.seen[project], region.good_project = self.clock(), ""
        result = await self._probe(project, region.name)
        if error_table.is_probe_refused(result, part.scopes) is False:
            region.good_project = project
        return result

    def _probe_ended(self, part: Part, region: RegionThrottle, result: CallResult) -> None:
        event = part.probe_ended(result, self.clock())
        if part is self.credentials:
            self._is_sampling = True
            self.are_credentials_accepted = self.are_credentials_accepted and event != "released"
        self.report(part, region, event, result if isinstance(result, CallError) else None)
        asyncio.get_running_loop().call_soon(self.wake)  # after those that waited for the probe


def _remember(memory: dict[str, Any], project: str, value: object) -> None:
    if project not in memory and len(memory) >= PROJECTS:
        del memory[next(iter(memory))]
    memory[project] = value


def _answer_fields(error: CallError | None) -> dict[str, str]:
    """The answer of the service, as fields of a log line."""
    if error is None:
        return {}
    fields = {"status": error.label, "error_code": error.error_code, "error": error.message}
    return {name: value for name, value in fields.items() if value}

"""Health of one replica: which conditions hold, and the status that follows from them. Pure; the clock is an argument.

The status is the first condition, in the order of `HealthStatus`, that holds. Judged from outcomes as well as from
connections: a worker that consumes and fails is `failing`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from schemas.event import Reason
from worker.policy import error_table
from worker.policy.call_result import CallError, CallStatus, Condition, ErrorKind, ErrorScope
from worker.policy.status import duration

MIN_OUTCOMES: Final = 5
"""Final outcomes in the last minute from which a majority of failures is a judgement."""
MIN_CALLS: Final = 5
MIN_REQUESTS: Final = 3
"""Calls, and different requests, from which nothing but failed calls is a judgement: one request may be the cause."""
STICKY_SECONDS: Final = 30.0
"""Time without its condition after which a sticky status is left."""
PROJECTS_NAMED: Final = 3
IF_IT_LASTS: Final = "If this lasts for a minute, run dcs-worker doctor."


class HealthStatus(StrEnum):
    """Status of a replica, the first one that holds; the order is that of precedence."""

    DRAINING = "draining"
    STARTING = "starting"
    DISCONNECTED = "disconnected"
    FAILING = "failing"
    PAUSED = "paused"
    DEGRADED = "degraded"
    OK = "ok"

    @property
    def is_ready(self) -> bool:
        """Whether `/readyz` is 200: a replica that fails or pauses would not be helped by fewer requests."""
        return self not in (HealthStatus.DRAINING, HealthStatus.STARTING, HealthStatus.DISCONNECTED)


MEANINGS: Final[Mapping[HealthStatus, str]] = {
    HealthStatus.DRAINING: "Shutting down: finishes the requests in flight and takes no new ones.",
    HealthStatus.STARTING: "Not consuming yet since the start.",
    HealthStatus.DISCONNECTED: "Cannot consume requests or publish events: the broker does not work for this replica.",
    HealthStatus.FAILING: "Works, but most requests fail, or DCS refuses every call.",
    HealthStatus.PAUSED: "Consumes nothing until DCS, Redis or the broker's queues work; requests stay in the queue.",
    HealthStatus.DEGRADED: "Works, but not for all requests, without Redis or a queue, or requests were parked lately.",
    HealthStatus.OK: "Works.",
}
"""What each status means, for operators."""

STICKY: Final = (HealthStatus.FAILING, HealthStatus.PAUSED, HealthStatus.DEGRADED)
_UNJUDGED_REASONS: Final = frozenset({Reason.INVALID_REQUEST, Reason.CONFLICT, Reason.EXPIRED})
"""Failures that are the sender's, or of its deadline."""


@dataclass(frozen=True, slots=True)
class Health:
    """Status, one sentence that says what, how much, which error and what to do, and values for programs."""

    status: HealthStatus = HealthStatus.STARTING
    reason: str = ""
    conditions: Mapping[str, str] = field(default_factory=dict)
    """The reason of every condition that holds."""
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecentCalls:
    """Calls of one operation in one region in the last minute."""

    region: str
    operation: str
    """In words, plural."""
    count: int
    failed: int
    requests: int
    """Different requests that they failed for."""
    error: CallError | None = None
    """The last one."""


@dataclass(frozen=True, slots=True)
class RecentOutcomes:
    """Final outcomes of the last minute that are judged; `reason`, `count` and `error` of the most frequent failure."""

    succeeded: int = 0
    failed: int = 0
    reason: str = ""
    count: int = 0
    region: str | None = None
    error: CallError | None = None


@dataclass(frozen=True, slots=True)
class StoppedRegion:
    """A region whose calls are stopped: refused at its endpoint, or by its circuit breaker."""

    region: str
    is_refused: bool
    seconds: float
    next_probe_seconds: float
    error: str
    """The last answer to a probe or a request."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What a replica knows at one moment. A text is empty while its condition does not hold."""

    is_draining: bool = False
    has_started: bool = True
    """It has paused, or consumed with all connections up, since its start."""
    disconnected: str = ""
    paused: Sequence[str] = ()
    """Why consumption is stopped, other than by a breaker, refused credentials or refused regions."""
    is_paused_by_breaker: bool = False
    credentials: str = ""
    """The refusal for which they are held; `credentials_error`, if it is an answer of DCS."""
    credentials_error: CallError | None = None
    regions: Sequence[StoppedRegion] = ()
    is_breaker_closed: bool = True
    """In every region; it is not while calls are let in again after an outage."""
    projects: Sequence[str] = ()
    """Those that are paused, each in words."""
    claims_away: str = ""
    """What replaces claims while Redis is away."""
    claims_error: str = ""
    """Why Redis is away."""
    outcomes: RecentOutcomes = field(default_factory=RecentOutcomes)
    calls: Sequence[RecentCalls] = ()
    has_tasks: bool = False
    """A call of the last minute created or found a task."""
    parked: int = 0
    """Requests parked by this replica in the last hour."""
    missing_queues: Sequence[str] = ()
    """Those that were deleted."""


def is_judged(reason: str, *, is_repeated: bool) -> bool:
    """Whether a final outcome says something about the worker and DCS."""
    return not is_repeated and reason not in _UNJUDGED_REASONS


def remedy(error: CallError) -> str:
    """What to do about an error, in one sentence."""
    if error_table.scope(error) is ErrorScope.REGION and error.kind is ErrorKind.NOT_FOUND:
        return "Check WORKER_DCS_ENDPOINTS."
    return next(REMEDIES[sign] for sign in (error.condition, error.status, error.kind) if sign in REMEDIES)


REMEDIES: Final[Mapping[Condition | CallStatus | ErrorKind | None, str]] = {
    Condition.CLOCK_SKEW: "Correct the clock of the host, whose containers share it: `timedatectl set-ntp true` there.",
    Condition.KEY_LOCKED: "Stop the program that signs with a wrong secret; the key works again when its lock ends.",
    CallStatus.NO_CREDENTIALS: "Replace the credentials, or correct the agency or provider behind them: "
    "dcs-worker doctor names it.",
    ErrorKind.RETRY: "Run dcs-worker doctor; if it finds nothing, wait for DCS.",
    ErrorKind.THROTTLED: "Ask for a higher limit of calls, or set WORKER_DCS_RATE.",
    ErrorKind.CAPACITY: "Raise the quota of the project, or use another subnet.",
    ErrorKind.REJECTED: "The senders must correct their requests.",
    ErrorKind.UNAUTHENTICATED: "Replace the credentials: the token, the access key or the password of the worker.",
    ErrorKind.FORBIDDEN: "Grant the worker's account the rights for DCS in the project.",
    ErrorKind.NOT_FOUND: "Check project_id and region of the requests, and WORKER_DCS_ENDPOINTS.",
}
"""By condition, else by status, else by kind of error; the doctor's are the same."""


def conditions(seen: Observed) -> dict[HealthStatus, str]:
    """Every condition that holds, with its reason; `ok` always does."""
    failing, paused = _failing(seen), _paused(seen)
    reasons = {
        HealthStatus.DRAINING: "Shutting down; no new requests are taken. Nothing to do." if seen.is_draining else "",
        HealthStatus.STARTING: "" if seen.has_started else f"Not consuming yet. {seen.disconnected or IF_IT_LASTS}",
        HealthStatus.DISCONNECTED: seen.disconnected,
        HealthStatus.FAILING: failing,
        HealthStatus.PAUSED: paused,
        HealthStatus.DEGRADED: _degraded(seen, failing + paused),
        HealthStatus.OK: f"Consuming. Requests in the last minute: {seen.outcomes.succeeded:,} succeeded, "
        f"{seen.outcomes.failed:,} failed.",
    }
    return {status: reason for status, reason in reasons.items() if reason}


class HealthTracker:
    """Health over time: a sticky status is left only after its condition was false for some time."""

    def __init__(self) -> None:
        self._held: dict[HealthStatus, tuple[str, float]] = {}
        """Sticky conditions: the last reason, and when it held last."""

    def __repr__(self) -> str:
        return f"<HealthTracker: {', '.join(self._held)}>"

    def judge(self, seen: Observed, now: float) -> Health:
        """The health from what is seen now, at a time of any one clock."""
        current = conditions(seen)
        paused = current.get(HealthStatus.PAUSED)
        self._held |= {status: (current[status], now) for status in STICKY if status in current}
        for status, (reason, held_at) in list(self._held.items()):
            if now - held_at >= STICKY_SECONDS:
                del self._held[status]
            elif status not in current:
                past = f"{now - held_at:.0f} s"
                goes_on = status is HealthStatus.FAILING and paused
                current[status] = (
                    f"{paused} {past} before: {reason}" if goes_on else f"Recovering for {past}. Before: {reason}"
                )
        if len(current) > 1:
            del current[HealthStatus.OK]
        ordered = {status: current[status] for status in HealthStatus if status in current}
        return Health(*next(iter(ordered.items())), {status.value: reason for status, reason in ordered.items()})


def _failing(seen: Observed) -> str:
    if seen.credentials:
        advice = remedy(seen.credentials_error) if seen.credentials_error else REMEDIES[ErrorKind.UNAUTHENTICATED]
        return f"The credentials are refused for every call: {seen.credentials}. {advice}"
    refused = {stopped.region: stopped for stopped in seen.regions if stopped.is_refused}
    if refused and {calls.region for calls in seen.calls} <= refused.keys():
        return " ".join(_refused(stopped, seen.calls) for stopped in refused.values())
    outcomes = seen.outcomes
    total = outcomes.succeeded + outcomes.failed
    if total >= MIN_OUTCOMES and outcomes.failed * 2 > total:
        return _failed_outcomes(outcomes, total)
    if not seen.has_tasks and seen.is_breaker_closed:
        for operation in {calls.operation for calls in seen.calls}:
            same = [calls for calls in seen.calls if calls.operation == operation]
            count, requests = sum(calls.count for calls in same), sum(calls.requests for calls in same)
            if count >= MIN_CALLS and requests >= MIN_REQUESTS and all(calls.failed == calls.count for calls in same):
                return _failed_calls(max(same, key=lambda calls: calls.failed))
    return ""


def _refused(stopped: StoppedRegion, recent: Sequence[RecentCalls]) -> str:
    """A region whose endpoint refuses every call."""
    for calls in recent:
        if calls.region == stopped.region and calls.error and error_table.scope(calls.error) is ErrorScope.REGION:
            return _failed_calls(calls)
    said = f"DCS has refused every call for {duration(stopped.seconds)}: {stopped.error}"
    return f"{stopped.region}: {said}. Check WORKER_DCS_ENDPOINTS."


def _failed_calls(calls: RecentCalls) -> str:
    share = f"{calls.region}: {calls.failed:,} of {calls.count:,} {calls.operation} in the last minute"
    if calls.error is None:
        return f"{share} failed. Run dcs-worker doctor."
    verb = "answered" if calls.error.status is CallStatus.ANSWERED else "failed:"
    return f"{share} {verb} {calls.error.summary}. {remedy(calls.error)}"


def _failed_outcomes(outcomes: RecentOutcomes, total: int) -> str:
    region = f"{outcomes.region}: " if outcomes.region else ""
    found = f"{region}{outcomes.failed:,} of {total:,} requests in the last minute failed"
    why = f"{found}, {outcomes.count:,} of them as {outcomes.reason}"
    if outcomes.error is None:
        return f"{why}. List the parked requests with: dcs-worker parked list."
    return f"{why} ({outcomes.error.summary}). {remedy(outcomes.error)}"


def _paused(seen: Observed) -> str:
    stopped = [_stopped_by_breaker(region) for region in seen.regions if not region.is_refused]
    return " ".join((*seen.paused, *(stopped if seen.is_paused_by_breaker else ())))


def _stopped_by_breaker(stopped: StoppedRegion) -> str:
    return (
        f"{stopped.region}: DCS has been failing for {duration(stopped.seconds)} ({stopped.error}); "
        f"next probe in {duration(stopped.next_probe_seconds)}. {REMEDIES[ErrorKind.RETRY]}"
    )


def redis_away(error: str) -> str:
    """That Redis is away, and why."""
    said = error.removeprefix("Redis cannot be reached: ").rstrip(".")
    return f"Redis is unreachable ({said})" if said else "Redis is unreachable"


def _degraded(seen: Observed, already_said: str) -> str:
    regions = [
        _refused(region, seen.calls) if region.is_refused else _stopped_by_breaker(region) for region in seen.regions
    ]
    found = [said for said in regions if said not in already_said]
    if seen.projects:
        more = len(seen.projects) - PROJECTS_NAMED
        named = "; ".join(seen.projects[:PROJECTS_NAMED]) + (f"; and {more:,} more" if more > 0 else "")
        found.append(f"Paused projects: {named}. Check their quotas, and the worker's rights in them.")
    if seen.claims_away:
        away = redis_away(seen.claims_error)
        found.append(f"{away}; meanwhile: {seen.claims_away}. Restore Redis (WORKER_CLAIMS_URL).")
    if seen.missing_queues:
        named = ", ".join(seen.missing_queues)
        found.append(f"Queues do not exist: {named}. Run dcs-worker topology apply as a user who may.")
    if seen.parked:
        found.append(f"Requests parked in the last hour: {seen.parked:,}. List them with: dcs-worker parked list.")
    return " ".join(found)

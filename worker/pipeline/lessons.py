"""What a lane learns from the ending of a call: each is told to those, and only those, whom it tells about."""

from math import inf
from typing import Final

from worker.pipeline.lane import Call, Lane
from worker.policy import error_table
from worker.policy.call_result import (
    CallError,
    CallStatus,
    ErrorKind,
    ErrorScope,
    LookupResult,
    TaskCreated,
    TaskNotFound,
)
from worker.policy.pace import Pace
from worker.policy.tenants import Tenant

CREDENTIALS: Final = "credentials"
QUOTA: Final = "quota"


def learn(lane: Lane, call: Call, ending: TaskCreated | LookupResult | CallError) -> None:
    """A call of the lane ended."""
    now, limit = lane.clock(), lane.limit.value
    if isinstance(ending, TaskCreated):
        lane.limit.answered(call.begun, now, lane.in_use)
        _answered(lane, call, ending, now)
    elif isinstance(ending, CallError):
        _faulted(lane, call, ending, now)
    else:
        _answered(lane, call, ending, now)
    if lane.limit.value != limit:
        lane.changed()


def _answered(lane: Lane, call: Call, ending: TaskCreated | LookupResult | CallError, now: float) -> None:
    """The service works, whatever it thinks of the request."""
    lane.pace.granted()
    if lane.breaker.succeeded(call.generation):
        lane.limit.restart(now)
        lane.note("warning", "breaker.closed", seconds=round(now - lane.breaker.since, 1))
        lane.turned()
        lane.changed()
    if call.tenant is not None:
        _helped(lane, call, call.tenant, ending)


def _helped(lane: Lane, call: Call, tenant: Tenant, ending: TaskCreated | LookupResult | CallError) -> None:
    """The project was not refused. Who may look may not create yet, and who is full may not be told so."""
    project = call.migration.project_id
    tenant.pace.granted()
    is_proof = isinstance(ending, TaskCreated) or (isinstance(ending, CallError) and tenant.why == CREDENTIALS)
    if not is_proof:
        tenant.hold.void(call.hold)
    elif tenant.hold.succeeded(call.hold):
        lane.note("warning", "project.released", project_id=project)
    if isinstance(ending, TaskNotFound):
        tenant.looked(call.migration.key)
    elif tenant.is_well and not lane.lines.get(project):
        lane.tenants.known.pop(project, None)
        lane.lines.pop(project, None)


def _faulted(lane: Lane, call: Call, fault: CallError, now: float) -> None:
    if fault.status is CallStatus.TIMEOUT:
        lane.limit.answered(call.begun, now, lane.in_use)
    match error_table.scope(fault):
        case ErrorScope.SERVICE:
            _failed(lane, call, fault, now)
        case ErrorScope.REGION:
            lane.passed(call)
            _slow_down(lane, lane.pace, call, fault, now)
            lane.limit.throttled(call.begun, now, lane.pace.rate or inf)
        case ErrorScope.PROJECT if fault.kind is ErrorKind.THROTTLED:
            lane.passed(call)
            tenant = lane.tenants.blamed(call.migration.project_id)
            _slow_down(lane, tenant.pace, call, fault, now, project_id=call.migration.project_id)
        case (ErrorScope.CREDENTIALS | ErrorScope.PROJECT) as scope:
            _refused(lane, call, CREDENTIALS if scope is ErrorScope.CREDENTIALS else QUOTA, fault, now)
        case ErrorScope.REQUEST:
            _answered(lane, call, fault, now)
        case _:
            lane.void(call)


def _failed(lane: Lane, call: Call, fault: CallError, now: float) -> None:
    breaker, said = lane.breaker, {"label": fault.label, "message": fault.message}
    was_open = breaker.is_open
    if breaker.failed(call.generation, call.migration.key, now, lane.random_unit()):
        lane.note("error", "breaker.opened", next_probe=round(breaker.wait(now), 1), **said)
    elif was_open and call.generation == breaker.generation:
        lane.note("warning", "breaker.probed", next_probe=round(breaker.wait(now), 1), **said)
    if call.tenant is not None:
        call.tenant.hold.void(call.hold)
    if breaker.is_open:
        lane.turned()
        lane.changed()


def _slow_down(lane: Lane, pace: Pace, call: Call, fault: CallError, now: float, **whose: str) -> None:
    was, quota = pace.rate, pace.quota
    if pace.refused(call.begun, now, fault.throttle, fault.retry_after):
        level = "info" if was is None or pace.quota != quota else "debug"
        lane.note(level, "calls.paced", per_second=round(pace.rate or 0.0, 2), quota=pace.quota, **whose)


def _refused(lane: Lane, call: Call, why: str, fault: CallError, now: float) -> None:
    """The project is refused or full; the service works."""
    project = call.migration.project_id
    tenant, call.tenant = lane.tenants.blamed(project), None
    _answered(lane, call, fault, now)
    tenant.pace.granted()
    tenant.why = why
    if tenant.hold.failed(call.hold, call.migration.key, now, lane.random_unit()):
        said = {"label": fault.label, "message": fault.message}
        lane.note("warning", "project.held", project_id=project, why=why, **said)

"""Client of the simulated DCS, and the observer that checks what a replica reports."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.simulation.scenario.call_endings import CALL_ENDINGS, LOOKUP_FAULTS, Classify, error_answer, received
from tests.simulation.scenario.plan import CREATE_DEADLINE_SECONDS
from tests.simulation.world.dcs import SimulatedDcs
from tests.simulation.world.records import CURRENT_DELIVERY, DcsCall
from tests.simulation.world.replica_context import ReplicaContext
from worker.policy.call_result import (
    CallError,
    CallResult,
    CallStatus,
    ErrorKind,
    Evidence,
    LookupResult,
    SeveralTasks,
    TaskCreated,
    TaskNotFound,
)
from worker.policy.migration_request import Key, MigrationRequest


class DcsClient:
    """Access of a replica to the simulated DCS."""

    def __init__(self, replica: ReplicaContext, dcs: SimulatedDcs, classify: Classify) -> None:
        self._replica = replica
        self._dcs = dcs
        self._classify = classify
        self._created: dict[str, Key] = {}
        """Whose tasks are known to be, as the worker's own client remembers it."""

    async def create(
        self, migration: MigrationRequest, is_still_allowed: Callable[[], Awaitable[bool]]
    ) -> TaskCreated | CallError:
        """Create the task, if `is_still_allowed` agrees right before the request is sent."""
        replica, delivery = self._replica, CURRENT_DELIVERY.get()
        await replica.point("create.before")
        if not await is_still_allowed():
            return CallError(Evidence.NEVER_SENT, ErrorKind.RETRY, CallStatus.STALE)
        if migration.not_after is not None and replica.epoch_now() > migration.not_after:
            replica.report_violation("created after not_after")
        call = self._dcs.start_create(migration, delivery)
        call.is_claimed = replica.is_claimed(migration)
        replica.log("create: %s%s", call.ending, f" -> {call.task_id}" if call.task_id else "")
        await replica.point("create.sent")
        if CALL_ENDINGS[call.ending].received == "deadline":
            await asyncio.sleep(max(0.0, call.started_at + CREATE_DEADLINE_SECONDS - replica.now))
        await replica.point("create.after")
        self._dcs.end_create(call)
        call.is_claimed = call.is_claimed and replica.is_claimed(migration)
        result = received(call.ending, call.task_id or "", self._classify)
        if isinstance(result, TaskCreated):
            self._created[result.instance_id] = migration.key
        return result

    async def probe(self, project_id: str, region: str) -> LookupResult | CallError:
        """Make a list call that belongs to no request."""
        replica = self._replica
        await replica.point("probe.before")
        self._dcs.dcs_calls.append(DcsCall(replica.now, replica.name, None))
        outage = self._dcs.outage(project_id)
        replica.log("probe: %s", outage or "answered")
        await replica.point("probe.after")
        return self._failed(outage) if outage else TaskNotFound()

    def _failed(self, outage: str) -> CallError:
        result = received(outage, "", self._classify)
        assert isinstance(result, CallError)
        return result

    async def find(
        self,
        migration: MigrationRequest,
        since: float,
        on_call: Callable[[], None],
        *,
        may_exist: bool,
        was_sent: bool,
    ) -> LookupResult | CallError:
        """Look up the task."""
        replica = self._replica
        on_call()
        fault = await replica.point("lookup.before")
        self._dcs.dcs_calls.append(DcsCall(replica.now, replica.name, CURRENT_DELIVERY.get().message.request_key))
        if (outage := self._dcs.outage(migration.project_id)) is not None:
            result: LookupResult | CallError = self._failed(outage)
        elif fault in LOOKUP_FAULTS:
            result = error_answer(*LOOKUP_FAULTS[fault])
        elif fault == "lookup-reset":
            result = CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.RESET)
        else:
            others = {task_id for task_id, key in self._created.items() if key != migration.key}
            result = self._dcs.find(migration, since, others, was_sent=was_sent)
            CURRENT_DELIVERY.get().lookup_answered_at = replica.now
        if isinstance(result, CallError | SeveralTasks):
            CURRENT_DELIVERY.get().is_in_doubt = True
        replica.log("look-up: %s", result if not isinstance(result, CallError) else result.label)
        if await replica.point("lookup.after") == "lookup-slow":
            await asyncio.sleep(CREATE_DEADLINE_SECONDS - 1.0)
        CURRENT_DELIVERY.get().lookup_received_at = replica.now
        return result


@dataclass(slots=True)
class CheckingObserver:
    """Observer that checks reports against the truth."""

    replica: ReplicaContext

    def received(self, *, redelivered: bool) -> None:
        """Ignore it: there is nothing to check."""

    def called(self, migration: MigrationRequest, operation: str, ending: CallResult, attempt: int) -> None:
        """Ignore it: there is nothing to check."""

    def settled(self, fact: Any) -> None:
        """Check that an outcome is reported only after the acknowledgement."""
        self.replica.log("reports %s (%s)", fact.outcome, fact.reason)
        if fact.outcome != "returned" and not CURRENT_DELIVERY.get().has_acked:
            self.replica.report_violation(f"reported {fact.outcome} of a delivery that was not acknowledged")

    def followed_up(self, watch: Any, word: Any, now: float) -> None:
        """Check that the end of a watch is reported only after the acknowledgement."""
        if not CURRENT_DELIVERY.get().has_acked:
            self.replica.report_violation("reported the end of a watch that was not acknowledged")

    def failed(self, error: Exception) -> None:
        """Report a defect as a violation."""
        self.replica.report_violation(f"defect: {type(error).__name__}: {error}")

    def unconfirmed(self, reason: str) -> None:
        """Ignore it: there is nothing to check."""

    def limited(self, limit: int) -> None:
        """Ignore it: there is nothing to check."""

    def breaker(self, region: str, state: int) -> None:
        """Add a line to the timeline."""
        self.replica.log("breaker: %s", state)

    def note(self, level: str, event: str, **fields: Any) -> None:
        """Add a line to the timeline."""
        self.replica.log("logs %s %s", event, fields)

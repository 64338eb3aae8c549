"""The client of the service, and the observer: what a replica's flow calls and tells."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.simulation.scenario.call_endings import ENDINGS, LOOKS, Classify, answered, heard
from tests.simulation.world.dcs import DEADLINE, Cloud
from tests.simulation.world.records import HANDED, Asked
from tests.simulation.world.stage import Stage
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
from worker.policy.migration_request import MigrationRequest


class Client:
    """Calls of the service."""

    def __init__(self, stage: Stage, cloud: Cloud, classify: Classify) -> None:
        self._stage = stage
        self._cloud = cloud
        self._classify = classify

    async def create(
        self, migration: MigrationRequest, is_still_allowed: Callable[[], Awaitable[bool]]
    ) -> TaskCreated | CallError:
        """Create the task. `may_go` has the last word before the first byte."""
        stage, by = self._stage, HANDED.get()
        await stage.point("create.before")
        if not await is_still_allowed():
            return CallError(Evidence.NEVER_SENT, ErrorKind.RETRY, CallStatus.STALE)
        if migration.not_after is not None and stage.wall() > migration.not_after:
            stage.violate("created after not_after")
        call = self._cloud.begin(migration, by)
        stage.say("create: %s%s", call.ending, f" -> {call.task_id}" if call.task_id else "")
        await stage.point("create.sent")
        if ENDINGS[call.ending].heard == "deadline":
            await asyncio.sleep(max(0.0, call.begun + DEADLINE - stage.now))
        await stage.point("create.after")
        self._cloud.end(call)
        return heard(call.ending, call.task_id or "", self._classify)

    async def probe(self, project_id: str, region: str) -> LookupResult | CallError:
        """List for no request."""
        stage = self._stage
        await stage.point("probe.before")
        self._cloud.asked.append(Asked(stage.now, stage.name, None))
        outage = self._cloud.outage(project_id)
        stage.say("probe: %s", outage or "answered")
        await stage.point("probe.after")
        return self._failed(outage) if outage else TaskNotFound()

    def _failed(self, outage: str) -> CallError:
        result = heard(outage, "", self._classify)
        assert isinstance(result, CallError)
        return result

    async def find(
        self, migration: MigrationRequest, since: float, on_call: Callable[[], None]
    ) -> LookupResult | CallError:
        """Look for the task."""
        stage = self._stage
        on_call()
        fault = await stage.point("find.before")
        self._cloud.asked.append(Asked(stage.now, stage.name, HANDED.get().message.matter))
        if (outage := self._cloud.outage(migration.project_id)) is not None:
            sighting: LookupResult | CallError = self._failed(outage)
        elif fault in LOOKS:
            sighting = answered(*LOOKS[fault])
        elif fault == "look-reset":
            sighting = CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.RESET)
        else:
            sighting = self._cloud.find(migration, since)
            HANDED.get().looked_at = stage.now
        if isinstance(sighting, CallError | SeveralTasks):
            HANDED.get().is_in_doubt = True
        stage.say("look: %s", sighting if not isinstance(sighting, CallError) else sighting.label)
        if await stage.point("find.after") == "look-slow":
            await asyncio.sleep(DEADLINE - 1.0)
        HANDED.get().look_ended_at = stage.now
        return sighting


@dataclass(slots=True)
class Watcher:
    """Is told facts, and holds them against what is true."""

    stage: Stage

    def received(self, *, redelivered: bool) -> None:
        """Nothing to hold against it."""

    def called(self, migration: MigrationRequest, operation: str, ending: CallResult, attempt: int) -> None:
        """Nothing to hold against it."""

    def settled(self, fact: Any) -> None:
        """Said only once it is true."""
        self.stage.say("says %s (%s)", fact.outcome, fact.reason)
        if fact.outcome != "returned" and not HANDED.get().has_acked:
            self.stage.violate(f"said {fact.outcome} of a delivery that was not acknowledged")

    def failed(self, error: Exception) -> None:
        """A defect."""
        self.stage.violate(f"defect: {type(error).__name__}: {error}")

    def unconfirmed(self, reason: str) -> None:
        """Nothing to hold against it."""

    def limited(self, limit: int) -> None:
        """Nothing to hold against it."""

    def breaker(self, region: str, state: int) -> None:
        """A line of the timeline."""
        self.stage.say("breaker: %s", state)

    def note(self, level: str, event: str, **fields: Any) -> None:
        """A line of the timeline."""
        self.stage.say("notes %s %s", event, fields)

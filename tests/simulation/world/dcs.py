"""The service: what create calls do there, and when the list shows it. It does not know who is alive."""

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Final

from schemas.dcs import ONLINE_MIGRATION, TaskDetail, TaskRow
from schemas.timestamp import to_text
from tests.simulation.scenario.call_endings import ENDINGS
from tests.simulation.scenario.plan import Plan
from tests.simulation.world.event_loop import Timers
from tests.simulation.world.records import Asked, Call, Handed
from worker.policy import task_matching
from worker.policy.call_result import LookupResult
from worker.policy.migration_request import MigrationRequest
from worker.policy.task_matching import Match

EPOCH: Final = 1_800_000_000.0
"""Epoch seconds at the beginning of a run, by the service's clock."""
DEADLINE: Final = 30.0
"""Of a whole create call."""
ACTS_AFTER: Final = 0.02


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the list and the detail call show it."""

    row: TaskRow
    detail: TaskDetail
    call: Call | None


class Cloud:
    """Every task, and every create call."""

    def __init__(self, timers: Timers, rng: Random, plan: Plan) -> None:
        self.calls: list[Call] = []
        self.tasks: list[Task] = []
        self._timers = timers
        self._plan = plan
        self._rng = rng
        self._answered = [0] * len(plan.errands)
        self.asked: list[Asked] = []

    def begin(self, migration: MigrationRequest, by: Handed) -> Call:
        """A create call begins: its ending is the next of its request's script."""
        self.asked.append(Asked(self._timers.now, by.replica, by.message.matter))
        name = self.outage(migration.project_id, creates=True) or self._next(by.message.matter[0])
        ending = ENDINGS[name]
        now = self._timers.now
        call = Call(by, name, now, is_open=ending.is_open, is_sent=ending.is_sent, looked_at=by.looked_at)
        call.look_ended_at = by.look_ended_at
        self.calls.append(call)
        if self._plan.bound == "deadline":
            call.bound = now + DEADLINE + self._plan.settle
        elif by.lost_at <= now:
            self._bind(call)
        if ending.acts:
            self._create(migration, call, is_late=ending.is_late)
        return call

    def outage(self, project_id: str, *, creates: bool = False) -> str | None:
        """How every call of the project ends at present, if they all end alike."""
        now = self._timers.now
        outages = (one for one in self._plan.outages if one.strikes(project_id, now, creates=creates))
        return next((one.ending for one in outages), None)

    def end(self, call: Call) -> None:
        """Its caller learns how the call ended."""
        call.ended = self._timers.now
        self._bind(call)

    def cut(self, by: Handed) -> None:
        """The broker takes a message back: whoever gets it next settles from now."""
        for call in self.calls:
            if call.by is by:
                self._bind(call)

    def find(self, migration: MigrationRequest, since: float) -> LookupResult:
        """What the list shows of an order's tasks."""
        found: list[str] = []
        for task in self.tasks:
            if task.call is not None and not task.call.is_listed(self._timers.now):
                continue
            match = task_matching.row(migration, task.row, since)
            if match is Match.ASK:
                match = task_matching.detail(migration, task.detail)
            if match is Match.YES:
                found.append(task.row.task_id)
        return task_matching.lookup_result(found)

    def add_strangers(self, body: str, count: int) -> None:
        """Tasks that others made with a body like ours, but without a marker."""
        for number in range(count):
            self.tasks.append(_task(f"stranger-{number}", body, None, self._timers.now))

    def _bind(self, call: Call) -> None:
        """From now on a settle time runs."""
        if self._plan.bound == "cut":
            call.bound = min(call.bound, self._timers.now + self._plan.settle)

    def _next(self, errand: int) -> str:
        script, position = self._plan.errands[errand].script, self._answered[errand]
        if position >= len(script):
            return "ok"
        if not ENDINGS[script[position]].is_sticky:
            self._answered[errand] += 1
        return script[position]

    def _create(self, migration: MigrationRequest, call: Call, *, is_late: bool) -> None:
        call.task_id = f"task-{len(self.tasks)}"
        call.listed = math.inf if is_late else call.begun + ACTS_AFTER + self._plan.lag
        self.tasks.append(_task(call.task_id, migration.body.decode(), call, call.begun))


@lru_cache(maxsize=256)
def _content(body: str) -> dict[str, str]:
    content: dict[str, str] = json.loads(body)
    return content


def _task(task_id: str, body: str, call: Call | None, now: float) -> Task:
    content = _content(body)
    told = {
        "task_id": task_id,
        "task_name": content["name"],
        "description": content.get("description"),
        "migration_type": ONLINE_MIGRATION,
        "created_at": to_text(EPOCH + now),
    }
    detail = TaskDetail(
        **told,
        tenant_vpc_id=content["vpc_id"],
        tenant_subnet_id=content["subnet_id"],
        tenant_security_group_id=content["security_group_id"],
    )
    return Task(TaskRow(**told), detail, call)

"""Simulated DCS: its tasks, the endings of create calls, and when a task is listed."""

import json
import math
from collections.abc import Set
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from typing import Final

from schemas.dcs import ONLINE_MIGRATION, TaskDetail, TaskRow
from schemas.timestamp import to_text
from tests.simulation.scenario.call_endings import CALL_ENDINGS
from tests.simulation.scenario.plan import CREATE_DEADLINE_SECONDS, CUT_FORMS, START_EPOCH_SECONDS, Plan
from tests.simulation.world.event_loop import Timers
from tests.simulation.world.records import CreateCall, DcsCall, DeliveryRecord
from worker.policy import task_matching
from worker.policy.call_result import LookupResult
from worker.policy.migration_request import MigrationRequest
from worker.policy.task_matching import Match

TASK_CREATED_AFTER_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the list call and the detail call show it."""

    row: TaskRow
    detail: TaskDetail
    call: CreateCall | None
    fate: str = "ready"
    fate_after: float = 0.0

    def status(self, now: float) -> str:
        """Its status word at a time."""
        age = now - (self.call.started_at if self.call is not None else 0.0)
        if self.fate == "stuck" or age < self.fate_after:
            return "CREATING"
        if self.fate == "failed":
            return "ERROR"
        return self.fate.upper() if self.fate != "ready" and age >= 2 * self.fate_after else "RUNNING"


class SimulatedDcs:
    """All tasks, all create calls, and the outages."""

    def __init__(self, timers: Timers, rng: Random, plan: Plan) -> None:
        self.calls: list[CreateCall] = []
        self.tasks: list[Task] = []
        self._timers = timers
        self._plan = plan
        self._rng = rng
        self._endings_used = [0] * len(plan.requests)
        self.dcs_calls: list[DcsCall] = []

    def start_create(self, migration: MigrationRequest, delivery: DeliveryRecord) -> CreateCall:
        """Start a create call: its ending is the next one that the plan has for its request."""
        self.dcs_calls.append(DcsCall(self._timers.now, delivery.replica, delivery.message.request_key))
        name = self.outage(migration.project_id, creates=True) or self._next(delivery.message.request_key[0])
        ending = CALL_ENDINGS[name]
        now = self._timers.now
        call = CreateCall(
            delivery,
            name,
            now,
            is_ambiguous=ending.is_ambiguous,
            is_sent=ending.is_sent,
            lookup_answered_at=delivery.lookup_answered_at,
        )
        call.lookup_received_at = delivery.lookup_received_at
        self.calls.append(call)
        if self._plan.listing_delay_from == "deadline":
            call.listed_by = now + CREATE_DEADLINE_SECONDS + self._plan.listing_delay
        elif delivery.lost_at <= now:
            self._start_listing_delay(call)
        if ending.creates_task:
            self._create(migration, call, is_listed_late=ending.is_listed_late)
        return call

    def outage(self, project_id: str, *, creates: bool = False) -> str | None:
        """Ending of all calls of the project at present, if there is an outage."""
        now = self._timers.now
        outages = (outage for outage in self._plan.outages if outage.applies_to(project_id, now, creates=creates))
        return next((outage.ending for outage in outages), None)

    def end_create(self, call: CreateCall) -> None:
        """End a create call: its caller learns how it ended."""
        call.ended_at = self._timers.now
        self._start_listing_delay(call)

    def on_delivery_returned(self, delivery: DeliveryRecord) -> None:
        """Start the listing delay of the creates of a delivery that the broker took back."""
        for call in self.calls:
            if call.delivery is delivery:
                self._start_listing_delay(call)

    def find(self, migration: MigrationRequest, since: float, others: Set[str], *, was_sent: bool) -> LookupResult:
        """Listed tasks of a request; `others` are known to be other requests'."""
        matches: dict[str, Match] = {}
        for task in self.tasks:
            if task.call is not None and not task.call.is_listed(self._timers.now):
                continue
            match = task_matching.row(migration, task.row, since)
            if match is Match.ASK:
                is_anothers = task.row.task_id in others
                match = task_matching.detail(
                    migration, task.row, task.detail, since, was_sent=was_sent, is_anothers=is_anothers
                )
            matches[task.row.task_id] = match
        return task_matching.lookup_result(matches)

    def created_tasks(self, project_id: str = "") -> dict[str, Task]:
        """Tasks of requests by id; with a project only those that its list shows."""
        now, requests = self._timers.now, self._plan.requests
        return {
            task.row.task_id: task
            for task in self.tasks
            if task.call is not None
            and (
                not project_id
                or (
                    task.call.is_listed(now)
                    and requests[task.call.delivery.message.request_key[0]].project == project_id
                    and task.status(now) != "DELETED"
                )
            )
        }

    def add_unrelated_tasks(self, body: str, count: int) -> None:
        """Add tasks of other systems, with the same body but without a marker."""
        for number in range(count):
            self.tasks.append(_task(f"unrelated-{number}", body, None, self._timers.now, self._plan.text_form))

    def _start_listing_delay(self, call: CreateCall) -> None:
        """Start the listing delay of a create call."""
        if self._plan.listing_delay_from == "call_end":
            call.listed_by = min(call.listed_by, self._timers.now + self._plan.listing_delay)

    def _next(self, request: int) -> str:
        call_endings, position = self._plan.requests[request].call_endings, self._endings_used[request]
        if position >= len(call_endings):
            return "ok"
        if not CALL_ENDINGS[call_endings[position]].is_permanent:
            self._endings_used[request] += 1
        return call_endings[position]

    def _create(self, migration: MigrationRequest, call: CreateCall, *, is_listed_late: bool) -> None:
        call.task_id = f"task-{len(self.tasks)}"
        call.listed_at = (
            math.inf if is_listed_late else call.started_at + TASK_CREATED_AFTER_SECONDS + self._plan.listing_lag
        )
        request = self._plan.requests[call.delivery.message.request_key[0]]
        task = _task(call.task_id, migration.body.decode(), call, call.started_at, self._plan.text_form)
        self.tasks.append(replace(task, fate=request.fate, fate_after=request.fate_after))


@lru_cache(maxsize=256)
def _content(body: str) -> dict[str, str]:
    content: dict[str, str] = json.loads(body)
    return content


def _task(task_id: str, body: str, call: CreateCall | None, now: float, text_form: str) -> Task:
    content = _content(body)
    name, description = content["name"], content.get("description")
    if text_form in CUT_FORMS:
        description = (description or "")[: CUT_FORMS[text_form]]
    elif text_form != "as sent":
        name, description = (
            "?" if text_form == "unknown" else f"&#{ord(name[0])};{name[1:].upper()} ",
            f"{description}}}",
        )
    shared_fields = {
        "task_id": task_id,
        "task_name": name,
        "description": description,
        "migration_type": ONLINE_MIGRATION,
        "created_at": to_text(START_EPOCH_SECONDS + now),
    }
    detail = TaskDetail(
        **shared_fields,
        tenant_vpc_id=content["vpc_id"],
        tenant_subnet_id=content["subnet_id"],
        tenant_security_group_id=content["security_group_id"],
    )
    return Task(TaskRow(**shared_fields), detail, call)

"""Marker check: whether the service keeps the marker in the descriptions of tasks, found out once per region.

The first task that this process creates in a region is compared with what was sent: one list call in the background,
after the listing delay and while no request waits for a permit. It delays and fails no request.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from contextvars import Context
from typing import Final

from schemas.dcs import TaskRow
from worker.pipeline.ports import CallThrottle
from worker.policy import error_table, task_matching
from worker.policy.call_result import CallError, ErrorKind, PostponedError, TaskCreated, TaskNotFound
from worker.policy.migration_request import MigrationRequest

BUSY_SECONDS: Final = 5.0
"""Until the next attempt at a permit, while requests wait for one."""

Look = Callable[[MigrationRequest, str], Awaitable[TaskRow | CallError | None]]
"""Reads the row of a task by one list call; None if it is not there."""
Report = Callable[[MigrationRequest, str, str], None]
"""Receives the request, the task id, and what became of the marker."""


class MarkerCheck:
    """The checks of one process, for these regions."""

    def __init__(
        self, regions: Iterable[str], look: Look, throttle: CallThrottle, report: Report, delay: float
    ) -> None:
        self.waiting = dict.fromkeys(regions, self._begin)
        """The regions that wait for a created task, and what it is passed to."""
        self.facts: dict[str, dict[str, str]] = {}
        """By region: what became of the marker, once that is known."""
        self._look, self._throttle, self._report, self._delay = look, throttle, report, delay
        self._checks: dict[str, asyncio.Task[None]] = {}

    async def aclose(self) -> None:
        """End the checks that are under way."""
        for check in self._checks.values():
            check.cancel()
        await asyncio.gather(*self._checks.values(), return_exceptions=True)

    def _begin(self, migration: MigrationRequest, created: TaskCreated) -> None:
        if migration.marker is None:
            return
        del self.waiting[migration.region]
        check = self._check(migration, created.instance_id)
        # In no trace: the delivery ends long before.
        self._checks[migration.region] = asyncio.get_running_loop().create_task(check, context=Context())

    async def _check(self, migration: MigrationRequest, task_id: str) -> None:
        seconds, row = self._delay, None
        while await self._throttle.wait_unless_closed(seconds):
            with suppress(PostponedError):
                row = await self._row(migration, task_id)
                break
            seconds = BUSY_SECONDS
        if isinstance(row, TaskRow) and row.description is not None:
            state = task_matching.marker_state(migration, row.description)
            self.facts[migration.region] = {"marker": state}
            self._report(migration, task_id, state)
        elif isinstance(row, CallError) and error_table.final_reason(row) is None:
            self.waiting[migration.region] = self._begin  # the next task is checked instead

    async def _row(self, migration: MigrationRequest, task_id: str) -> TaskRow | CallError | None:
        """The row of the task. Of errors the throttle learns only a 429, so that no request is held for this call."""
        async with self._throttle.permit(migration, 1, is_spare=True) as permit:
            permit.begin_call()
            row = await self._look(migration, task_id)
            if not isinstance(row, CallError):
                permit.ended(TaskNotFound())
            elif row.kind is ErrorKind.THROTTLED:
                permit.ended(row)
        return row

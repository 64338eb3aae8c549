"""Calls that tell how created tasks stand: the list of a project, and detail and job of one task. They create nothing.

Results are values. Of a list only ids and status words are kept: a project may have thousands of tasks.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import quote, urlencode

from pydantic import BaseModel

from schemas.dcs import JobReply, ListReply, TaskDetail, TaskRow
from worker.dcs.client import ROWS, DcsClient
from worker.dcs.http_client import CallFailedError
from worker.policy.call_result import CallError
from worker.policy.follow_up import ListedTask, Watch
from worker.policy.migration_request import MigrationRequest

T = TypeVar("T", bound=BaseModel)


class TaskCalls:
    """Makes the calls with `client`."""

    def __init__(self, client: DcsClient) -> None:
        self._client = client

    async def statuses(
        self, project_id: str, region: str, on_call: Callable[[], None]
    ) -> Mapping[str, ListedTask] | CallError:
        """State of every listed task of the project, by id."""
        found: dict[str, ListedTask] = {}
        redact = self._client.redactor.answer

        async def note(row: TaskRow) -> None:
            said = (row.status, row.error_message, row.ecs_tenant_private_ip)
            found[row.task_id] = ListedTask(*(text and redact(text) for text in said))

        try:
            await self._client.read_rows((project_id, region), on_call, {}, note)
        except CallFailedError as failed:
            return failed.error
        return found

    async def row(self, migration: MigrationRequest, task_id: str) -> TaskRow | CallError | None:
        """The row of a task, by the first page of the tasks of its name; None if it is not there."""
        query = urlencode({"name": migration.task.name, "limit": ROWS, "offset": 0}, quote_via=quote)
        place = (migration.project_id, migration.region)
        try:
            page = await self._client.get("list", *place, f"/migration-tasks?{query}", ListReply)
        except CallFailedError as failed:
            return failed.error
        return next((row for row in page.migration_tasks if row.task_id == task_id), None)

    async def show(self, watch: Watch) -> TaskDetail | CallError:
        """Detail of the task, without the parts that hold passwords."""
        return await self._one(
            "show", watch, f"/migration-task/{quote(watch.success.instance_id, safe='')}", TaskDetail
        )

    async def job(self, watch: Watch) -> JobReply | CallError:
        """The job that creates the task."""
        return await self._one("job", watch, f"/jobs/{quote(watch.success.job_id or '', safe='')}", JobReply)

    async def _one(self, operation: str, watch: Watch, path: str, model: type[T]) -> T | CallError:
        success = watch.success
        try:
            reply = await self._client.get(operation, success.project_id, success.region, path, model)
        except CallFailedError as failed:
            return failed.error
        texts = {name: self._client.redactor.answer(text) for name, text in reply if isinstance(text, str)}
        return reply.model_copy(update=texts)

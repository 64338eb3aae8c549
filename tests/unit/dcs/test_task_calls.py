"""Calls that tell how created tasks stand: what is kept of a list, a detail and a job, and the memory for it."""

import asyncio
import json
import tracemalloc

import httpx2

from schemas.dcs import JobReply, TaskDetail
from tests.pipeline.follow_up.watch_bench import REGION, success
from tests.unit.dcs.fakes import a_client, reply
from worker.dcs.auth.auth_method import ReadyToken
from worker.dcs.client import DcsClient
from worker.dcs.task_calls import TaskCalls
from worker.policy.follow_up import ListedTask, Watch
from worker.tools.fake_dcs import tasks
from worker.tools.fake_dcs.tasks import MigrationTask

PROJECTS, TASKS = 5, 2_000
MAX_MEGABYTES = 30


class Service:
    """DCS with the same number of tasks in every project; it answers from prepared bytes."""

    def __init__(self, count: int) -> None:
        self.tasks = [
            MigrationTask("p", f"migration-{number}", 0.0, description=f"{'d' * 100} #rq-{number:016x}")
            for number in range(count)
        ]
        self.rows = [json.dumps(tasks.list_row(task, 1.0)) for task in self.tasks]
        self.calls: list[str] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a call."""
        path, query = request.url.path, request.url.params
        self.calls.append(path)
        if path.endswith("/migration-tasks"):
            begin, limit = int(query["offset"]), int(query["limit"])
            rows = ",".join(self.rows[begin : begin + limit])
            return reply(200, text=f'{{"count": {len(self.rows)}, "migration_tasks": [{rows}]}}')
        show = tasks.job if "/jobs/" in path else tasks.detail
        return reply(200, json=show(self.tasks[0], 1.0))


def task_calls(service: Service) -> TaskCalls:
    """Calls to a service."""
    return TaskCalls(DcsClient(a_client(service, 30.0), ReadyToken(lambda: "token"), {REGION: "https://dcs.example"}))


async def test_detail_and_job_are_kept_without_passwords() -> None:
    """The detail of the real service has them in plain text."""
    service = Service(1)
    watch = Watch.read(httpx2.Response(200, json=success()).content, {})
    assert watch is not None
    calls = task_calls(service)
    detail, job = await calls.show(watch), await calls.job(watch)
    assert isinstance(detail, TaskDetail)
    assert (detail.status, detail.ecs_tenant_private_ip) == ("RUNNING", tasks.PRIVATE_IP)
    assert tasks.PLAIN_TEXT_PASSWORD not in repr(detail)
    assert job == JobReply(status="SUCCESS")
    assert service.calls == ["/v2/p1/migration-task/i-1", "/v2/p1/jobs/j-1"]


async def test_lists_of_ten_thousand_tasks_take_little_memory() -> None:
    """Five projects at once; rows have all the members that the service sends."""
    service = Service(TASKS)
    calls = task_calls(service)
    counted: list[None] = []
    tracemalloc.start()
    try:
        projects = [calls.statuses(f"p{number}", REGION, lambda: counted.append(None)) for number in range(PROJECTS)]
        lists = await asyncio.gather(*projects)
        kept, peak = (size / 2**20 for size in tracemalloc.get_traced_memory())
    finally:
        tracemalloc.stop()
    assert all(isinstance(listed, dict) and len(listed) == TASKS for listed in lists)
    assert set(next(iter(lists)).values()) == {ListedTask("RUNNING", None, tasks.PRIVATE_IP)}  # type: ignore[union-attr]
    assert len(counted) == len(service.calls) <= 8 * PROJECTS
    assert kept < peak < MAX_MEGABYTES, (kept, peak)

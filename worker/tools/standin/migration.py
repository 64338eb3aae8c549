"""The three calls of the DCS API: create, list and show migration tasks.

Every call is admitted in the order of the real service: outage, credentials, permission, quota; only then does it
take time, is read, and acts. Source: DCS API V2, Data Migration.
"""

import json
import re
from typing import Any
from uuid import uuid4

from aiohttp import web

from worker.tools.standin.access import Claim, demand
from worker.tools.standin.endings import Exchange, end
from worker.tools.standin.quota import throttled_text
from worker.tools.standin.record import KEPT_BODY, Call
from worker.tools.standin.refusal import Refusal
from worker.tools.standin.rows import detail, page
from worker.tools.standin.settings import Operation
from worker.tools.standin.stage import Stage
from worker.tools.standin.tasks import Task

MOST_BODY = 12 * 1024 * 1024
_MANDATORY = ("name", "vpc_id", "subnet_id", "security_group_id")
_FIELD_CODES = {"vpc_id": "DCS.4013", "security_group_id": "DCS.4014", "subnet_id": "DCS.4016"}
_PROJECT = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Migration:
    """The API over one stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._serving = 0

    def __repr__(self) -> str:
        return f"<Migration serving={self._serving}>"

    def routes(self) -> list[web.RouteDef]:
        """Paths of the API, each for its one method."""
        recorded = self._stage.recorded
        return [
            web.post("/v2/{project}/migration/instance", recorded("create", self.create)),
            web.get("/v2/{project}/migration-tasks", recorded("list", self.list), allow_head=False),
            web.get("/v2/{project}/migration-task/{task}", recorded("show", self.show), allow_head=False),
        ]

    async def create(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Create a task, as its name's next step says."""
        body = await read_body(request)
        call.body = body[:KEPT_BODY].decode("utf-8", "replace")
        project = await self._admitted("create", request, body)
        asked = _task_asked_for(request, body)
        call.name = asked["name"]
        step = self._stage.faults.of_create(self._stage.settings, project, asked["name"])
        call.step = step.text
        if step.ending == "late":
            self._stage.create_later(step.seconds, project, asked)
        task = self._stage.create(project, asked) if step.creates else None
        return await end(self._exchange(request, call, self._created(task)), step)

    async def list(self, request: web.Request, call: Call) -> web.StreamResponse:
        """List the project's tasks, newest first, a page at a time."""
        call.name = request.query.get("name")
        project = await self._admitted("list", request, b"")
        settings = self._stage.settings
        offset = _number(request, "offset", 0, 0, None)
        limit = _number(request, "limit", 10, 1, 1000)
        now = self._stage.clock()
        found = self._stage.tasks.visible(project, call.name or "", settings.fuzzy_name, now)
        return await self._ended("list", request, call, page(found, settings, offset, limit))

    async def show(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Show one task in detail; an unknown id is a 400."""
        project = await self._admitted("show", request, b"")
        task = self._stage.tasks.find(project, request.match_info["task"], self._stage.clock())
        if task is None:
            raise Refusal(400, "DCS.4133")
        return await self._ended("show", request, call, detail(task, self._stage.settings))

    async def _ended(
        self, operation: Operation, request: web.Request, call: Call, body: dict[str, Any]
    ) -> web.StreamResponse:
        step = self._stage.faults.of_call(self._stage.settings, operation)
        call.step = step.text
        return await end(self._exchange(request, call, body), step)

    def _exchange(self, request: web.Request, call: Call, body: dict[str, Any]) -> Exchange:
        return Exchange(self._stage, request, self._stage.headers(call), body)

    def _created(self, task: Task | None) -> dict[str, Any]:
        reply = {"instance_id": task.task_id if task else str(uuid4())}
        return {**reply, "job_id": uuid4().hex} if self._stage.settings.job_id else reply

    async def _admitted(self, operation: Operation, request: web.Request, body: bytes) -> str:
        stage, settings = self._stage, self._stage.settings
        project = request.match_info["project"]
        if settings.down != "no":
            raise Refusal(503, "APIGW.0601", "The service is not available")
        if not _PROJECT.fullmatch(project):
            raise Refusal(400, "DCS.4002")
        demand(settings.auth, stage.issued, Claim(request, body, project, stage.now()))
        if operation in settings.forbidden:
            raise Refusal(403, "DCS.2003")
        self._demand_quota(project)
        await self._spend_latency()
        return project

    def _demand_quota(self, project: str) -> None:
        quota = self._stage.quotas.refuses(self._stage.settings, project, self._stage.clock())
        if quota is not None:
            text = throttled_text(quota.limit, quota.time, quota.unit, quota.policy)
            headers = {} if quota.retry_after is None else {"Retry-After": str(quota.retry_after)}
            raise Refusal(429, "APIGW.0308", text, headers)

    async def _spend_latency(self) -> None:
        settings = self._stage.settings
        if not settings.latency:
            return
        self._serving += 1
        try:
            load = self._serving / settings.capacity if settings.capacity else 1.0
            await self._stage.pause(settings.latency * max(1.0, load))
        finally:
            self._serving -= 1
        if self._stage.stopping.is_set():
            raise Refusal(503, "APIGW.0601", "The service is not available")


async def read_body(request: web.Request) -> bytes:
    """The whole body; more than 12 MB are refused."""
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as wrong:
        raise Refusal(413, "APIGW.0201", "Request entity too large") from wrong


def json_object(request: web.Request, body: bytes) -> dict[str, Any]:
    """The body as a JSON object; refused if it is empty, of another type, or anything else."""
    if not body:
        raise Refusal(400, "DCS.4004")
    if request.content_type != "application/json":
        raise Refusal(400, "DCS.4005", "The content type is not application/json.")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as wrong:
        raise Refusal(400, "DCS.4005") from wrong
    if not isinstance(asked, dict):
        raise Refusal(400, "DCS.4005")
    return asked


def _task_asked_for(request: web.Request, body: bytes) -> dict[str, Any]:
    asked = json_object(request, body)
    for name in _MANDATORY:
        if not isinstance(asked.get(name), str) or not asked[name]:
            raise Refusal(400, _FIELD_CODES.get(name, "DCS.4800"), f"Invalid {name} in the request.")
    if not isinstance(asked.get("description"), str | None):
        raise Refusal(400, "DCS.4800", "Invalid description in the request.")
    return asked


def _number(request: web.Request, name: str, default: int, least: int, most: int | None) -> int:
    text = request.query.get(name, str(default))
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < least or (most and int(text) > most):
        raise Refusal(400, "DCS.4800", f"Invalid {name} in the request.")
    return int(text)

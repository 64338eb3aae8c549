"""The three calls of the DCS API: create, list and show migration tasks.

Every call is checked in the order of the real service: outage, credentials, permission, quota. Then its latency
passes, its body is read, and it acts. Source: DCS API V2, Data Migration.
"""

import json
import re
from typing import Any
from uuid import uuid4

from aiohttp import web

from worker.tools.fake_dcs.authentication import ReceivedRequest, check_credentials
from worker.tools.fake_dcs.call_log import MAX_BODY_CHARACTERS_KEPT, CallRecord
from worker.tools.fake_dcs.error_responses import ErrorResponse
from worker.tools.fake_dcs.fault_selection import throttled_text
from worker.tools.fake_dcs.responses import PendingResponse, respond
from worker.tools.fake_dcs.settings import Operation
from worker.tools.fake_dcs.state import ServerState
from worker.tools.fake_dcs.tasks import MigrationTask, detail, page

MAX_BODY_BYTES = 12 * 1024 * 1024
_MANDATORY_FIELDS = ("name", "vpc_id", "subnet_id", "security_group_id")
_FIELD_CODES = {"vpc_id": "DCS.4013", "security_group_id": "DCS.4014", "subnet_id": "DCS.4016"}
_PROJECT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class DcsApi:
    """The DCS API of one server."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._serving = 0

    def __repr__(self) -> str:
        return f"<DcsApi serving={self._serving}>"

    def routes(self) -> list[web.RouteDef]:
        """Paths and methods of the API."""
        recorded_route = self._state.recorded_route
        return [
            web.post("/v2/{project}/migration/instance", recorded_route("create", self.create)),
            web.get("/v2/{project}/migration-tasks", recorded_route("list", self.list), allow_head=False),
            web.get("/v2/{project}/migration-task/{task}", recorded_route("show", self.show), allow_head=False),
        ]

    async def create(self, request: web.Request, call: CallRecord) -> web.StreamResponse:
        """Create a task, or do what the next step of its name's script says."""
        body = await read_body(request)
        call.body = body[:MAX_BODY_CHARACTERS_KEPT].decode("utf-8", "replace")
        project = await self._admit("create", request, body)
        requested = _task_request(request, body)
        call.name = requested["name"]
        step = self._state.faults.step_for_create(self._state.settings, project, requested["name"])
        call.step = step.text
        if step.response_kind == "late":
            self._state.create_later(step.seconds, project, requested)
        task = self._state.create(project, requested) if step.creates else None
        return await respond(self._pending_response(request, call, self._created(task)), step)

    async def list(self, request: web.Request, call: CallRecord) -> web.StreamResponse:
        """List one page of the project's tasks, newest first."""
        call.name = request.query.get("name")
        project = await self._admit("list", request, b"")
        settings = self._state.settings
        offset = _number(request, "offset", 0, 0, None)
        limit = _number(request, "limit", 10, 1, 1000)
        now = self._state.clock()
        found = self._state.tasks.visible(project, call.name or "", settings.fuzzy_name, now)
        return await self._respond_by_script("list", request, call, page(found, settings, offset, limit))

    async def show(self, request: web.Request, call: CallRecord) -> web.StreamResponse:
        """Show one task in detail; an unknown id is a 400."""
        project = await self._admit("show", request, b"")
        task = self._state.tasks.find(project, request.match_info["task"], self._state.clock())
        if task is None:
            raise ErrorResponse(400, "DCS.4133")
        return await self._respond_by_script("show", request, call, detail(task, self._state.settings))

    async def _respond_by_script(
        self, operation: Operation, request: web.Request, call: CallRecord, body: dict[str, Any]
    ) -> web.StreamResponse:
        step = self._state.faults.step_for_call(self._state.settings, operation)
        call.step = step.text
        return await respond(self._pending_response(request, call, body), step)

    def _pending_response(self, request: web.Request, call: CallRecord, body: dict[str, Any]) -> PendingResponse:
        return PendingResponse(self._state, request, self._state.headers(call), body)

    def _created(self, task: MigrationTask | None) -> dict[str, Any]:
        reply = {"instance_id": task.task_id if task else str(uuid4())}
        return {**reply, "job_id": uuid4().hex} if self._state.settings.job_id else reply

    async def _admit(self, operation: Operation, request: web.Request, body: bytes) -> str:
        state, settings = self._state, self._state.settings
        project = request.match_info["project"]
        if settings.down != "no":
            raise ErrorResponse(503, "APIGW.0601", "The service is not available")
        if not _PROJECT_ID.fullmatch(project):
            raise ErrorResponse(400, "DCS.4002")
        check_credentials(settings.auth, state.issued, ReceivedRequest(request, body, project, state.now()))
        if operation in settings.forbidden:
            raise ErrorResponse(403, "DCS.2003")
        self._check_quota(project)
        await self._wait_latency()
        return project

    def _check_quota(self, project: str) -> None:
        quota = self._state.quotas.exceeded_quota(self._state.settings, project, self._state.clock())
        if quota is not None:
            text = throttled_text(quota.limit, quota.time, quota.unit, quota.policy)
            headers = {} if quota.retry_after is None else {"Retry-After": str(quota.retry_after)}
            raise ErrorResponse(429, "APIGW.0308", text, headers)

    async def _wait_latency(self) -> None:
        settings = self._state.settings
        if not settings.latency:
            return
        self._serving += 1
        try:
            load = self._serving / settings.capacity if settings.capacity else 1.0
            await self._state.pause(settings.latency * max(1.0, load))
        finally:
            self._serving -= 1
        if self._state.stopping.is_set():
            raise ErrorResponse(503, "APIGW.0601", "The service is not available")


async def read_body(request: web.Request) -> bytes:
    """Read the whole body; more than 12 MB are rejected."""
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise ErrorResponse(413, "APIGW.0201", "Request entity too large") from error


def json_object(request: web.Request, body: bytes) -> dict[str, Any]:
    """Parse the body as a JSON object; rejected if it is empty, of another content type, or no object."""
    if not body:
        raise ErrorResponse(400, "DCS.4004")
    if request.content_type != "application/json":
        raise ErrorResponse(400, "DCS.4005", "The content type is not application/json.")
    try:
        requested = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ErrorResponse(400, "DCS.4005") from error
    if not isinstance(requested, dict):
        raise ErrorResponse(400, "DCS.4005")
    return requested


def _task_request(request: web.Request, body: bytes) -> dict[str, Any]:
    requested = json_object(request, body)
    for name in _MANDATORY_FIELDS:
        if not isinstance(requested.get(name), str) or not requested[name]:
            raise ErrorResponse(400, _FIELD_CODES.get(name, "DCS.4800"), f"Invalid {name} in the request.")
    if not isinstance(requested.get("description"), str | None):
        raise ErrorResponse(400, "DCS.4800", "Invalid description in the request.")
    return requested


def _number(request: web.Request, name: str, default: int, least: int, most: int | None) -> int:
    text = request.query.get(name, str(default))
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < least or (most and int(text) > most):
        raise ErrorResponse(400, "DCS.4800", f"Invalid {name} in the request.")
    return int(text)

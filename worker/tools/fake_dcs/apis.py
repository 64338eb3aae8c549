"""The APIs of the fake DCS: create, list and show migration tasks, show jobs; and IAM's tokens by password.

Every DCS call is checked in the order of the real service: outage, credentials, permission, quota. Then its latency
passes, its body is read, and it acts. Sources: DCS API V2, Data Migration; IAM API, Obtaining a User Token Through
Password Authentication.
"""

import json
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aiohttp import web

from worker.tools.fake_dcs.authentication import ReceivedRequest
from worker.tools.fake_dcs.faults import ErrorResponse, FaultStep, IamErrorResponse
from worker.tools.fake_dcs.responses import PendingResponse, respond
from worker.tools.fake_dcs.state import MAX_BODY_CHARACTERS_KEPT, CallRecord, ServerState
from worker.tools.fake_dcs.tasks import MigrationTask, detail, job, list_row

MAX_BODY_BYTES = 12 * 1024 * 1024
_MANDATORY_FIELDS = ("name", "vpc_id", "subnet_id", "security_group_id")
_FIELD_CODES = {"vpc_id": "DCS.4013", "security_group_id": "DCS.4014", "subnet_id": "DCS.4016"}
_PROJECT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class DcsApi:
    """The DCS API of one server. A subclass may override `admit`, `rows` and `shown`."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._serving = 0

    def routes(self) -> list[web.RouteDef]:
        """Paths and methods of the API."""
        recorded_route = self._state.recorded_route
        return [
            web.post("/v2/{project}/migration/instance", recorded_route("create", self.create)),
            web.get("/v2/{project}/migration-tasks", recorded_route("list", self.list), allow_head=False),
            web.get("/v2/{project}/migration-task/{task}", recorded_route("show", self.show), allow_head=False),
            web.get("/v2/{project}/jobs/{job}", recorded_route("job", self.job), allow_head=False),
        ]

    async def admit(self, request: web.Request, call: CallRecord, body: bytes) -> str:
        """The project of a call that may act. Raises ErrorResponse."""
        state, settings, project = self._state, self._state.settings, call.project or ""
        if not _PROJECT_ID.fullmatch(project):
            raise ErrorResponse(400, "DCS.4002")
        state.authenticator.check(settings.auth, ReceivedRequest(request, body, project, state.now()))
        quota = state.quotas.exceeded_quota(settings, project, state.clock())
        if quota is not None:
            headers = {} if quota.retry_after is None else {"Retry-After": str(quota.retry_after)}
            raise ErrorResponse(429, "APIGW.0308", quota.error_text, headers)
        await self._wait_latency()
        return project

    def listed(self, tasks: list[MigrationTask]) -> list[MigrationTask]:
        """The tasks that a list shows of those that are visible."""
        return tasks

    def rows(self, tasks: list[MigrationTask]) -> list[dict[str, Any]]:
        """The list rows of tasks."""
        return [list_row(task, self._state.clock()) for task in tasks]

    def shown(self, task: MigrationTask) -> dict[str, Any]:
        """The detail of a task."""
        return detail(task, self._state.clock())

    async def create(self, request: web.Request, call: CallRecord) -> web.StreamResponse:
        """Create a task, or do what the next step of its name's script says."""
        body = await read_body(request)
        call.body = body[:MAX_BODY_CHARACTERS_KEPT].decode("utf-8", "replace")
        project = await self.admit(request, call, body)
        requested = _task_request(request, body)
        call.name = requested["name"]
        step = self._state.faults.step_for_create(self._state.settings, project, requested["name"])
        if step.kind == "create late":
            self._state.create_later(step.seconds, project, requested)
        task = self._state.create(project, requested) if step.creates else None
        if task is not None and step.kind == "fail":
            task.fail_reason = step.reason
        return await self._respond(request, call, step, self._created(task))

    async def list(self, request: web.Request, call: CallRecord) -> web.StreamResponse:
        """List one page of the project's tasks, newest first."""
        call.name = request.query.get("name")
        project = await self.admit(request, call, b"")
        settings, tasks = self._state.settings, self._state.tasks
        offset = _number(request, "offset", 0, 0, None)
        limit = _number(request, "limit", 10, 1, 1000)
        found = self.listed(tasks.visible(project, call.name or "", settings.fuzzy_name, self._state.clock()))
        step = self._state.faults.step_for_call(settings, "list")
        page = {"count": len(found), "migration_tasks": self.rows(found[offset : offset + limit])}
        return await self._respond(request, call, step, page)

    async def show(self, request: web.Request, call: CallRecord) -> web.StreamResponse:
        """Show one task in detail; an unknown id is a 400."""
        project = await self.admit(request, call, b"")
        task = self._state.tasks.find(project, request.match_info["task"], self._state.clock())
        if task is None:
            raise ErrorResponse(400, "DCS.4133")
        step = self._state.faults.step_for_call(self._state.settings, "show")
        return await self._respond(request, call, step, self.shown(task))

    async def job(self, request: web.Request, call: CallRecord) -> web.StreamResponse:
        """Show the job that creates a task; an unknown id is a 400."""
        project = await self.admit(request, call, b"")
        task = self._state.tasks.find_by_job(project, request.match_info["job"])
        if task is None:
            raise ErrorResponse(400, "111400063")
        step = self._state.faults.step_for_call(self._state.settings, "job")
        return await self._respond(request, call, step, job(task, self._state.clock()))

    async def _respond(
        self, request: web.Request, call: CallRecord, step: FaultStep, body: dict[str, Any]
    ) -> web.StreamResponse:
        return await respond(PendingResponse(self._state, request, call, lambda: web.json_response(body)), step)

    def _created(self, task: MigrationTask | None) -> dict[str, Any]:
        reply = {"instance_id": task.task_id if task else str(uuid4())}
        return {**reply, "job_id": task.job_id if task else uuid4().hex} if self._state.settings.job_id else reply

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


class IamApi:
    """The IAM API of one server."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def routes(self) -> list[web.RouteDef]:
        """Paths and methods of IAM."""
        return [web.post("/v3/auth/tokens", self._state.recorded_route("token", self.token))]

    async def token(self, request: web.Request, call: CallRecord) -> web.StreamResponse:
        """Issue a project-scoped token for the right password: 201, the token in X-Subject-Token."""
        state = self._state
        user, project = _user_and_project(json_object(request, await read_body(request)))
        call.project = project
        step = state.faults.step_for_call(state.settings, "token")
        pending = PendingResponse(state, request, call, lambda: self._issue_token(user, project))
        return await respond(pending, step)

    def _issue_token(self, user: dict[str, Any], project: str) -> web.Response:
        auth, now = self._state.settings.auth, self._state.now()
        account = (user["domain"]["name"], user["name"])
        self._state.authenticator.check_password(auth, account, user["password"], now)
        text, token = self._state.authenticator.issue_token(auth, project, now)
        fields = {
            "expires_at": iam_time(token.expires),
            "issued_at": iam_time(now),
            "methods": ["password"],
            "project": {"id": project, "name": project, "domain": {"name": auth.domain}},
            "user": {"name": auth.user, "domain": {"name": auth.domain}},
            "roles": [],
        }
        headers = {"X-Subject-Token": text, "X-IAM-Trace-Id": f"token_{uuid4().hex}"}
        return web.json_response({"token": fields}, status=201, headers=headers)


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


def iam_time(epoch: float) -> str:
    """A time in IAM's format: 2020-01-04T09:05:22.701000Z."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _user_and_project(requested: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The user with name, password and domain, and the project's id. Raises IamErrorResponse."""
    with suppress(KeyError, TypeError, AttributeError):
        identity, project = requested["auth"]["identity"], requested["auth"]["scope"]["project"]["id"]
        user = identity["password"]["user"]
        texts = (user["domain"]["name"], user["name"], user["password"], project)
        if identity["methods"] == ["password"] and all(isinstance(text, str) for text in texts):
            return user, project
    raise IamErrorResponse(400, "The request body is no password authentication for a project.", "Bad Request")

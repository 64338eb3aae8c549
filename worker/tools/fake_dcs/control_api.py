"""Control pages of the fake DCS: what it received, and how it behaves from now on.

| page             | what                                                                                            |
| ---------------- | ----------------------------------------------------------------------------------------------- |
| GET /_tasks      | count, names created more than once, the tasks; `?name=` exact, `?limit=` the newest            |
| POST /_tasks     | add a task without a call: `project_id`, `name`, and any other member of a task                 |
| GET /_calls      | the calls; `?operation=`, `?name=`, `?limit=` the newest                                        |
| GET /_stats      | counters                                                                                        |
| GET /_settings   | the current settings, secrets redacted                                                          |
| PUT /_settings   | change settings by a JSON merge patch                                                           |
| POST /_reset     | initial settings; no tasks, calls, tokens and counts                                            |
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from worker.tools.fake_dcs.state import ServerState
from worker.tools.fake_dcs.tasks import MigrationTask

Apply = Callable[[Mapping[str, Any], asyncio.BaseTransport | None], Awaitable[None]]
Reset = Callable[[], Awaitable[None]]


class ControlApi:
    """The control pages of one server."""

    def __init__(self, state: ServerState, apply: Apply, reset: Reset) -> None:
        self._state = state
        self._change_settings = apply
        self._reset = reset

    def __repr__(self) -> str:
        return f"<ControlApi {self._state}>"

    def routes(self) -> list[web.RouteDef]:
        """The table above."""
        return [
            web.get("/_tasks", self.tasks),
            web.post("/_tasks", self.add_task),
            web.get("/_calls", self.calls),
            web.get("/_stats", self.stats),
            web.get("/_settings", self.settings),
            web.put("/_settings", self.change_settings),
            web.post("/_reset", self.reset),
        ]

    async def tasks(self, request: web.Request) -> web.Response:
        """Show the tasks that exist, visible or not yet."""
        tasks = self._state.tasks
        name = request.query.get("name")
        rows = [asdict(task) for task in tasks.all if name in {None, task.name}]
        shown = _newest(rows, request)
        return web.json_response({"count": len(rows), "repeated": tasks.repeated, "tasks": shown})

    async def add_task(self, request: web.Request) -> web.Response:
        """Add a task that no call created."""
        requested = {"created": self._state.clock(), **await _json_object(request)}
        try:
            task = TypeAdapter(MigrationTask).validate_python(requested)
        except ValidationError as error:
            raise _bad_request(error) from error
        self._state.tasks.add(task)
        self._state.notify_change()
        return web.json_response(asdict(task), status=201)

    async def calls(self, request: web.Request) -> web.Response:
        """Show the calls, oldest first."""
        operation, name = request.query.get("operation"), request.query.get("name")
        found = [
            call.as_json()
            for call in self._state.call_log.calls
            if operation in {None, call.operation} and name in {None, call.name}
        ]
        return web.json_response({"count": len(found), "calls": _newest(found, request)})

    async def stats(self, _: web.Request) -> web.Response:
        """Show the counters."""
        return web.json_response(self._state.stats())

    async def settings(self, _: web.Request) -> web.Response:
        """Show the current settings."""
        return web.json_response(self._state.settings.model_dump(mode="json"))

    async def change_settings(self, request: web.Request) -> web.Response:
        """Change settings. An outage that refuses connections needs an end: these pages are unreachable meanwhile."""
        patch = await _json_object(request)
        if patch.get("down") == "refuse" and not patch.get("down_seconds"):
            raise web.HTTPBadRequest(text="down=refuse needs down_seconds: these pages are unreachable meanwhile\n")
        try:
            await self._change_settings(patch, request.transport)
        except ValidationError as error:
            raise _bad_request(error) from error
        response = await self.settings(request)
        if self._state.settings.down == "refuse":
            response.force_close()
        return response

    async def reset(self, _: web.Request) -> web.Response:
        """Return to the initial state."""
        await self._reset()
        return web.json_response(self._state.stats())


def _newest(rows: list[dict[str, Any]], request: web.Request) -> list[dict[str, Any]]:
    limit = request.query.get("limit", "")
    if not limit:
        return rows
    if not limit.isascii() or not limit.isdigit():
        raise web.HTTPBadRequest(text="limit is not a number\n")
    return rows[-int(limit) :] if int(limit) else []


async def _json_object(request: web.Request) -> dict[str, Any]:
    try:
        requested = json.loads(await request.read())
    except ValueError as error:
        raise web.HTTPBadRequest(text="the body is not JSON\n") from error
    if not isinstance(requested, dict):
        raise web.HTTPBadRequest(text="the body is not a JSON object\n")
    return requested


def _bad_request(error: ValidationError) -> web.HTTPBadRequest:
    lines = [f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}" for detail in error.errors()]
    return web.HTTPBadRequest(text="\n".join(lines) + "\n")

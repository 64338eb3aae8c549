"""Control pages of the fake DCS: what it received, and how it behaves from now on; and a client of the settings page.

| page             | what                                                                                            |
| ---------------- | ----------------------------------------------------------------------------------------------- |
| GET /_tasks      | count, names created more than once, the tasks; `?name=` exact, `?limit=` the newest            |
| GET /_calls      | the calls; `?operation=`, `?name=`, `?limit=` the newest                                        |
| GET /_stats      | counters                                                                                        |
| GET /_settings   | the current settings, secrets redacted                                                          |
| PUT /_settings   | change settings by a JSON merge patch                                                           |
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from aiohttp import web
from pydantic import ValidationError

from worker.tools.fake_dcs.state import ServerState

CHANGE_TIMEOUT_SECONDS: Final = 10.0


class ControlApi:
    """The control pages of one server; `apply` changes its settings by a merge patch."""

    def __init__(self, state: ServerState, apply: Callable[[Mapping[str, Any]], Awaitable[None]]) -> None:
        self._state = state
        self._apply = apply

    def routes(self) -> list[web.RouteDef]:
        """The table above."""
        return [
            web.get("/_tasks", self.tasks),
            web.get("/_calls", self.calls),
            web.get("/_stats", self.stats),
            web.get("/_settings", self.settings),
            web.put("/_settings", self.change_settings),
        ]

    async def tasks(self, request: web.Request) -> web.Response:
        """Show the tasks that exist, visible or not yet."""
        tasks = self._state.tasks
        name = request.query.get("name")
        rows = [asdict(task) for task in tasks.all if name in {None, task.name}]
        shown = _newest(rows, request)
        return web.json_response({"count": len(rows), "repeated": tasks.repeated, "tasks": shown})

    async def calls(self, request: web.Request) -> web.Response:
        """Show the calls, oldest first."""
        operation, name = request.query.get("operation"), request.query.get("name")
        found = [
            asdict(call)
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
        """Change settings."""
        try:
            patch = json.loads(await request.read())
        except ValueError as error:
            raise web.HTTPBadRequest(text="the body is not JSON\n") from error
        if not isinstance(patch, dict):
            raise web.HTTPBadRequest(text="the body is not a JSON object\n")
        try:
            await self._apply(patch)
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}\n" for detail in error.errors()]
            raise web.HTTPBadRequest(text="".join(lines)) from error
        return await self.settings(request)


def _newest(rows: list[dict[str, Any]], request: web.Request) -> list[dict[str, Any]]:
    limit = request.query.get("limit", "")
    if not limit:
        return rows
    if not limit.isascii() or not limit.isdigit():
        raise web.HTTPBadRequest(text="limit is not a number\n")
    return rows[-int(limit) :] if int(limit) else []


class ChangeError(Exception):
    """The settings could not be changed; the text is for an operator."""


def replace_faults(url: str, faults: Mapping[str, float]) -> None:
    """Replace all faults of the fake DCS at `url`. Raises ChangeError."""
    try:
        _put_settings(url, {"faults": None})  # a merge patch keeps members that it does not name
        _put_settings(url, {"faults": faults})
    except HTTPError as http_error:
        answer = http_error.read().decode(errors="replace").strip()
        raise ChangeError(
            f"The server at {url} is no fake DCS, or rejects the change: {http_error.code} {answer}"[:300]
        ) from None
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ChangeError(
            f"No fake DCS answers at {url}: {reason}. `demo --keep` and `simulate` print its URL."
        ) from None


def _put_settings(url: str, patch: Mapping[str, object]) -> None:
    if not url.startswith(("http://", "https://")):
        raise ValueError("not an http address")
    request = Request(f"{url.rstrip('/')}/_settings", json.dumps(patch).encode(), method="PUT")  # noqa: S310 - only http, checked above
    with urlopen(request, timeout=CHANGE_TIMEOUT_SECONDS) as reply:  # noqa: S310 - only http, checked above
        reply.read()

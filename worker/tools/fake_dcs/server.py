"""The fake DCS as one object: an HTTP server, its state and its settings.

Its control pages show what it received, and how it behaves from now on:

| page             | what                                                                                            |
| ---------------- | ----------------------------------------------------------------------------------------------- |
| GET /_tasks      | count, names created more than once, the tasks; `?name=` exact, `?limit=` the newest            |
| GET /_calls      | the calls; `?operation=`, `?name=`, `?limit=` the newest                                        |
| GET /_stats      | counters                                                                                        |
| GET /_settings   | the current settings, secrets redacted                                                          |
| PUT /_settings   | change settings by a JSON merge patch                                                           |
"""

import json
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Self

from aiohttp import web
from pydantic import ValidationError

from worker.tools.fake_dcs.apis import MAX_BODY_BYTES, DcsApi, IamApi
from worker.tools.fake_dcs.faults import ErrorResponse
from worker.tools.fake_dcs.platform import PlatformApi
from worker.tools.fake_dcs.settings import FakeDcsSettings, invalid_members
from worker.tools.fake_dcs.state import CallRecord, ServerState
from worker.tools.fake_dcs.tasks import MigrationTask

SHUTDOWN_TIMEOUT_SECONDS = 1.0
LISTEN_BACKLOG = 1024


class FakeDcs:
    """A fake DCS: `async with FakeDcs(settings) as fake_dcs:` serves on 127.0.0.1 and a free port.

    `clock` returns epoch seconds. Raises OSError when the address is not available. A subclass may override
    `new_state`, `routes`, `listen` and `apply`: `tests/fakes/faulty_dcs.py` does, for what only tests need.
    """

    def __init__(
        self,
        settings: FakeDcsSettings | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.address = (host, port)
        self.state = self.new_state(settings, clock)

    def new_state(self, settings: FakeDcsSettings | None, clock: Callable[[], float]) -> ServerState:
        """The state before the first call."""
        return ServerState(settings or FakeDcsSettings(), clock)

    def routes(self) -> list[web.RouteDef]:
        """The routes of all APIs, recorded."""
        return [route for api in (DcsApi, IamApi, PlatformApi) for route in api(self.state).routes()]

    async def listen(self) -> None:
        """Accept connections on the address."""
        host, port = self.address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
        self.address = listening.getsockname()[:2]
        await web.SockSite(self.runner, listening, backlog=LISTEN_BACKLOG).start()

    async def __aenter__(self) -> Self:
        application = self._application()
        self.runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_SECONDS)
        await self.runner.setup()
        await self.listen()
        host, port = self.address
        self.state.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runner.cleanup()

    @property
    def url(self) -> str:
        """The endpoint of all APIs, without a trailing slash."""
        return self.state.url

    @property
    def settings(self) -> FakeDcsSettings:
        """The current settings."""
        return self.state.settings

    @property
    def tasks(self) -> list[MigrationTask]:
        """The tasks that exist, oldest first, visible or not yet."""
        return list(self.state.tasks.all)

    @property
    def calls(self) -> list[CallRecord]:
        """The calls so far, oldest first, those in flight included."""
        return list(self.state.call_log.calls)

    async def apply(self, patch: Mapping[str, Any] | None = None, /, **members: Any) -> None:
        """Change settings by a JSON merge patch, with immediate effect. Raises ValidationError."""
        self.state.settings = self.state.settings.merged({**(patch or {}), **members})

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        recorded_route = self.state.recorded_route
        for route in self.routes():
            app.router.add_routes([route, web.route("*", route.path, recorded_route("other", _wrong_method))])
        app.router.add_routes(
            [
                web.get("/_tasks", self._show_tasks),
                web.get("/_calls", self._show_calls),
                web.get("/_stats", self._show_stats),
                web.get("/_settings", self._show_settings),
                web.put("/_settings", self._change_settings),
            ]
        )
        app.router.add_route("*", "/{tail:.*}", recorded_route("other", _unknown))
        app.on_shutdown.append(self._stop)
        return app

    async def _stop(self, _: web.Application) -> None:
        self.state.stopping.set()

    async def _show_tasks(self, request: web.Request) -> web.Response:
        name = request.query.get("name")
        rows = [asdict(task) for task in self.state.tasks.all if name in {None, task.name}]
        shown = _newest(rows, request)
        return web.json_response({"count": len(rows), "repeated": self.state.tasks.repeated, "tasks": shown})

    async def _show_calls(self, request: web.Request) -> web.Response:
        operation, name = request.query.get("operation"), request.query.get("name")
        found = [
            asdict(call)
            for call in self.state.call_log.calls
            if operation in {None, call.operation} and name in {None, call.name}
        ]
        return web.json_response({"count": len(found), "calls": _newest(found, request)})

    async def _show_stats(self, _: web.Request) -> web.Response:
        return web.json_response(self.state.stats())

    async def _show_settings(self, _: web.Request) -> web.Response:
        return web.json_response(self.settings.model_dump(mode="json"))

    async def _change_settings(self, request: web.Request) -> web.Response:
        try:
            patch = json.loads(await request.read())
        except ValueError as error:
            raise web.HTTPBadRequest(text="the body is not JSON\n") from error
        if not isinstance(patch, dict):
            raise web.HTTPBadRequest(text="the body is not a JSON object\n")
        try:
            await self.apply(patch)
        except ValidationError as error:
            raise web.HTTPBadRequest(text=f"{invalid_members(error)}\n") from error
        return await self._show_settings(request)


def _newest(rows: list[dict[str, Any]], request: web.Request) -> list[dict[str, Any]]:
    limit = request.query.get("limit", "")
    if not limit:
        return rows
    if not limit.isascii() or not limit.isdigit():
        raise web.HTTPBadRequest(text="limit is not a number\n")
    return rows[-int(limit) :] if int(limit) else []


async def _unknown(_: web.Request, __: CallRecord) -> web.StreamResponse:
    raise ErrorResponse(404, "APIGW.0101")


async def _wrong_method(_: web.Request, __: CallRecord) -> web.StreamResponse:
    raise ErrorResponse(405, "DCS.5001")

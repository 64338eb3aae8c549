"""The fake DCS as one object: an HTTP server, its state and its settings; and as a process until a signal."""

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from worker.tools.fake_dcs.call_log import CallRecord
from worker.tools.fake_dcs.control_api import ControlApi
from worker.tools.fake_dcs.dcs_api import MAX_BODY_BYTES, DcsApi
from worker.tools.fake_dcs.faults import ErrorResponse
from worker.tools.fake_dcs.iam_api import IamApi
from worker.tools.fake_dcs.settings import FakeDcsSettings
from worker.tools.fake_dcs.state import ServerState
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

    def __repr__(self) -> str:
        return f"<FakeDcs {self.state}>"

    def new_state(self, settings: FakeDcsSettings | None, clock: Callable[[], float]) -> ServerState:
        """The state before the first call."""
        return ServerState(settings or FakeDcsSettings(), clock)

    def routes(self) -> list[web.RouteDef]:
        """The routes of all APIs, recorded."""
        return [*DcsApi(self.state).routes(), *IamApi(self.state).routes()]

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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        old = self.state.settings
        new = old.merged({**(patch or {}), **members})
        self.state.faults.restart_changed_scripts(old, new)
        self.state.settings = new

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        recorded_route = self.state.recorded_route
        for route in self.routes():
            app.router.add_routes([route, web.route("*", route.path, recorded_route("other", _wrong_method))])
        app.router.add_routes(ControlApi(self.state, self.apply).routes())
        app.router.add_route("*", "/{tail:.*}", recorded_route("other", _unknown))
        app.on_shutdown.append(self._stop)
        return app

    async def _stop(self, _: web.Application) -> None:
        self.state.stopping.set()


async def _unknown(_: web.Request, __: CallRecord) -> web.StreamResponse:
    raise ErrorResponse(404, "APIGW.0101")


async def _wrong_method(_: web.Request, __: CallRecord) -> web.StreamResponse:
    raise ErrorResponse(405, "DCS.5001")


async def serve(settings: FakeDcsSettings, host: str, port: int, on_listening: Callable[[FakeDcs], None]) -> None:
    """Serve until SIGINT or SIGTERM; calls `on_listening` once. Raises OSError if the address is not available."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with FakeDcs(settings, host=host, port=port) as fake_dcs:
        on_listening(fake_dcs)
        await stop.wait()

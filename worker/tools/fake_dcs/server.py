"""The fake DCS as one object: an HTTP server on a socket, its state and its settings."""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from worker.tools.fake_dcs.call_log import CallRecord
from worker.tools.fake_dcs.control_api import ControlApi
from worker.tools.fake_dcs.dcs_api import MAX_BODY_BYTES, DcsApi
from worker.tools.fake_dcs.error_responses import ErrorResponse
from worker.tools.fake_dcs.identity_api import IamApi, MetadataApi
from worker.tools.fake_dcs.settings import FakeDcsSettings
from worker.tools.fake_dcs.state import ServerState
from worker.tools.fake_dcs.tasks import MigrationTask

_SHUTDOWN_TIMEOUT_SECONDS = 1.0


class ListeningSocket:
    """A listening address that can refuse connections and keep its port reserved meanwhile.

    Raises OSError when the address is not available.
    """

    def __init__(self, runner: web.AppRunner, host: str, port: int) -> None:
        self._runner = runner
        self._socket = _bound((host, port))
        self._address: tuple[str, int] = self._socket.getsockname()[:2]
        self._site: web.SockSite | None = None

    def __repr__(self) -> str:
        return f"<ListeningSocket {self.url} {'open' if self._site else 'closed'}>"

    @property
    def url(self) -> str:
        """The address as a URL without a trailing slash."""
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def open(self) -> None:
        """Accept connections."""
        if self._site is None:
            site = web.SockSite(self._runner, self._socket, backlog=1024)
            await site.start()
            self._site = site

    async def close(self, except_connection: asyncio.BaseTransport | None = None) -> None:
        """Refuse connections and reset the current ones, as when a machine dies; all but `except_connection`."""
        if self._site is None:
            return
        await self._site.stop()
        self._site = None
        for connection in self._runner.server.connections if self._runner.server else ():
            if connection.transport is not None and connection.transport is not except_connection:
                connection.transport.abort()
        self._socket = await _bound_again(self._address)

    def release(self) -> None:
        """Release the port, after the runner was stopped."""
        self._socket.close()


async def _bound_again(address: tuple[str, int]) -> socket.socket:
    # Some event loops close the listening socket a moment after they report it.
    for _ in range(50):
        try:
            return _bound(address)
        except OSError:
            await asyncio.sleep(0.02)
    return _bound(address)


def _bound(address: tuple[str, int]) -> socket.socket:
    family, kind, protocol, _, resolved = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(resolved)
    except OSError:
        bound.close()
        raise
    return bound


class FakeDcs:
    """A fake DCS: `async with FakeDcs(settings) as fake_dcs:` serves on 127.0.0.1 and a free port.

    `clock` returns epoch seconds. Raises OSError when the address is not available.
    """

    def __init__(
        self,
        settings: FakeDcsSettings | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._initial_settings = settings or FakeDcsSettings()
        self._address = (host, port)
        self._state = ServerState(self._initial_settings, clock)
        self._recovery_task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<FakeDcs {self._state}>"

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT_SECONDS)
        self._listening_socket = ListeningSocket(self._runner, *self._address)
        self._state.url = self._listening_socket.url
        await self._runner.setup()
        await self._apply_outage()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    @property
    def url(self) -> str:
        """The endpoint of DCS, IAM and the metadata service, without a trailing slash."""
        return self._state.url

    @property
    def settings(self) -> FakeDcsSettings:
        """The current settings."""
        return self._state.settings

    @property
    def tasks(self) -> list[MigrationTask]:
        """The tasks that exist, oldest first, visible or not yet."""
        return list(self._state.tasks.all)

    @property
    def calls(self) -> list[CallRecord]:
        """The calls so far, oldest first, those in flight included."""
        return list(self._state.call_log.calls)

    def stats(self) -> dict[str, Any]:
        """Counters, as `/_stats` shows them."""
        return self._state.stats()

    def add_task(self, task: MigrationTask) -> None:
        """Add a task that no call created."""
        self._state.tasks.add(task)
        self._state.notify_change()

    async def apply(self, patch: Mapping[str, Any] | None = None, /, **members: Any) -> None:
        """Change settings by a JSON merge patch, with immediate effect. Raises ValidationError."""
        await self._change_settings({**(patch or {}), **members}, None)

    async def _change_settings(self, patch: Mapping[str, Any], except_connection: asyncio.BaseTransport | None) -> None:
        old = self._state.settings
        new = old.merged(patch)
        self._state.faults.restart_changed_scripts(old, new)
        self._state.settings = new
        if not patch.keys().isdisjoint({"down", "down_seconds"}):
            await self._apply_outage(except_connection)

    async def reset(self) -> None:
        """Return to the initial settings, without tasks, calls, tokens and counts."""
        self._state.clear()
        self._state.settings = self._initial_settings
        await self._apply_outage()

    async def wait_until(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Wait until a condition on calls or tasks holds. Raises TimeoutError."""
        await self._state.wait_until(condition, timeout)

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        state = self._state
        for routes in (DcsApi(state).routes(), IamApi(state).routes(), MetadataApi(state).routes()):
            for route in routes:
                app.router.add_routes([route, web.route("*", route.path, state.recorded_route("other", _wrong_method))])
        app.router.add_routes(ControlApi(state, self._change_settings, self.reset).routes())
        app.router.add_route("*", "/{tail:.*}", state.recorded_route("other", _unknown))
        app.on_shutdown.append(self._stop)
        return app

    async def _stop(self, _: web.Application) -> None:
        self._state.stop()

    async def _apply_outage(self, except_connection: asyncio.BaseTransport | None = None) -> None:
        settings = self._state.settings
        if self._recovery_task is not None:
            self._recovery_task.cancel()
            self._recovery_task = None
        if settings.down == "refuse":
            await self._listening_socket.close(except_connection)
        else:
            await self._listening_socket.open()
        if settings.down != "no" and settings.down_seconds is not None:
            self._recovery_task = asyncio.create_task(self._recover(settings.down_seconds))

    async def _recover(self, seconds: float) -> None:
        await self._state.pause(seconds)
        if not self._state.stopping.is_set():
            self._recovery_task = None
            await self.apply(down="no", down_seconds=None)

    async def _close(self) -> None:
        if self._recovery_task is not None:
            self._recovery_task.cancel()
        await self._runner.cleanup()
        self._listening_socket.release()


async def _unknown(_: web.Request, __: CallRecord) -> web.StreamResponse:
    raise ErrorResponse(404, "APIGW.0101")


async def _wrong_method(_: web.Request, __: CallRecord) -> web.StreamResponse:
    raise ErrorResponse(405, "DCS.5001")

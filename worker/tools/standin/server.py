"""The stand-in as one object: a server on a socket, its state, and the knobs."""

import asyncio
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from worker.tools.standin.control import Control
from worker.tools.standin.door import Door
from worker.tools.standin.iam import Iam
from worker.tools.standin.metadata import Metadata
from worker.tools.standin.migration import MOST_BODY, Migration
from worker.tools.standin.record import Call
from worker.tools.standin.refusal import Refusal
from worker.tools.standin.settings import StandInSettings
from worker.tools.standin.stage import Stage
from worker.tools.standin.tasks import Task

_SHUTDOWN_SECONDS = 1.0


class StandIn:
    """A DCS of one's own: `async with StandIn(settings) as standin:` serves on 127.0.0.1 and a free port.

    `clock` gives epoch seconds. Raises OSError when the address cannot be had.
    """

    def __init__(
        self,
        settings: StandInSettings | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._first = settings or StandInSettings()
        self._address = (host, port)
        self._stage = Stage(self._first, clock)
        self._recovery: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<StandIn {self._stage}>"

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        self._door = Door(self._runner, *self._address)
        self._stage.url = self._door.url
        await self._runner.setup()
        await self._open_or_close()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()

    @property
    def url(self) -> str:
        """Where it serves, without a trailing slash: the endpoint of DCS, IAM and the metadata service alike."""
        return self._stage.url

    @property
    def settings(self) -> StandInSettings:
        """The present settings."""
        return self._stage.settings

    @property
    def tasks(self) -> list[Task]:
        """The tasks that exist, oldest first, visible or not yet."""
        return list(self._stage.tasks.all)

    @property
    def calls(self) -> list[Call]:
        """The calls so far, oldest first, those under way included."""
        return list(self._stage.record.calls)

    def stats(self) -> dict[str, Any]:
        """Cheap counters, as `/_stats` shows them."""
        return self._stage.stats()

    def plant(self, task: Task) -> None:
        """Let a task exist that no call created."""
        self._stage.tasks.add(task)
        self._stage.changed()

    async def apply(self, patch: Mapping[str, Any] | None = None, /, **members: Any) -> None:
        """Change settings by a JSON merge patch; when it returns, the change holds. ValidationError if invalid."""
        await self._apply({**(patch or {}), **members}, None)

    async def _apply(self, patch: Mapping[str, Any], spare: asyncio.BaseTransport | None) -> None:
        old = self._stage.settings
        new = old.changed(patch)
        self._stage.faults.forget_changed(old, new)
        self._stage.settings = new
        if not patch.keys().isdisjoint({"down", "down_seconds"}):
            await self._open_or_close(spare)

    async def reset(self) -> None:
        """As started: settings back, tasks, calls, tokens and counts gone."""
        self._stage.clear()
        self._stage.settings = self._first
        await self._open_or_close()

    async def until(self, holds: Callable[[], bool], timeout: float = 10.0) -> None:
        """Wait until a condition on calls or tasks holds; raises TimeoutError after so many seconds."""
        await self._stage.until(holds, timeout)

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=MOST_BODY)
        stage = self._stage
        for routes in (Migration(stage).routes(), Iam(stage).routes(), Metadata(stage).routes()):
            for route in routes:
                app.router.add_routes([route, web.route("*", route.path, stage.recorded("other", _wrong_method))])
        app.router.add_routes(Control(stage, self._apply, self.reset).routes())
        app.router.add_route("*", "/{tail:.*}", stage.recorded("other", _unknown))
        app.on_shutdown.append(self._stop)
        return app

    async def _stop(self, _: web.Application) -> None:
        self._stage.stop()

    async def _open_or_close(self, spare: asyncio.BaseTransport | None = None) -> None:
        settings = self._stage.settings
        if self._recovery is not None:
            self._recovery.cancel()
            self._recovery = None
        if settings.down == "refuse":
            await self._door.close(spare)
        else:
            await self._door.open()
        if settings.down != "no" and settings.down_seconds is not None:
            self._recovery = asyncio.create_task(self._recover(settings.down_seconds))

    async def _recover(self, seconds: float) -> None:
        await self._stage.pause(seconds)
        if not self._stage.stopping.is_set():
            self._recovery = None
            await self.apply(down="no", down_seconds=None)

    async def _leave(self) -> None:
        if self._recovery is not None:
            self._recovery.cancel()
        await self._runner.cleanup()
        self._door.release()


async def _unknown(_: web.Request, __: Call) -> web.StreamResponse:
    raise Refusal(404, "APIGW.0101")


async def _wrong_method(_: web.Request, __: Call) -> web.StreamResponse:
    raise Refusal(405, "DCS.5001")

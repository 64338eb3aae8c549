"""What all routes share: settings, state, the service's clock, and waits that end when the stand-in stops."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from typing import Any
from uuid import uuid4

from aiohttp import web

from worker.tools.standin.faults import Faults
from worker.tools.standin.issued import Issued
from worker.tools.standin.quota import Quotas
from worker.tools.standin.record import Call, Record, masked
from worker.tools.standin.refusal import Refusal
from worker.tools.standin.settings import StandInSettings
from worker.tools.standin.tasks import Task, Tasks

Handler = Callable[[web.Request, Call], Awaitable[web.StreamResponse]]


class NoAnswer(web.Response):
    """What a handler returns when the connection is gone and nothing is to be said."""


class Stage:
    """The state of one stand-in. `clock` gives epoch seconds."""

    def __init__(self, settings: StandInSettings, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.url = ""
        self.clock = clock
        self.stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._later: set[asyncio.TimerHandle] = set()
        self.clear()

    def __repr__(self) -> str:
        return f"<Stage {self.tasks} {self.record}>"

    def clear(self) -> None:
        """Forget every task, call, token and count, and what was still to happen; the settings stay."""
        self.tasks = Tasks()
        self.record = Record()
        self.faults = Faults()
        self.quotas = Quotas()
        self.issued = Issued()
        for handle in self._later:
            handle.cancel()
        self._later.clear()
        self.changed()

    def now(self) -> float:
        """The service's time, epoch seconds, ahead of ours by the clock offset."""
        return self.clock() + self.settings.clock_offset

    def changed(self) -> None:
        """Wake whoever waits for something to happen."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, holds: Callable[[], bool], timeout: float) -> None:
        """Wait until a condition on the state holds; raises TimeoutError after so many seconds."""
        async with asyncio.timeout(timeout):
            while not holds():
                await self._changed.wait()

    async def pause(self, seconds: float) -> None:
        """Wait so many seconds, or until the stand-in stops."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return

    def create(self, project: str, body: Mapping[str, Any]) -> Task:
        """Make a task now."""
        now = self.clock()
        task = self.tasks.create(project, body, now, self.settings.visibility)
        self.record.count_second("tasks", now)
        self.changed()
        return task

    def create_later(self, seconds: float, project: str, body: Mapping[str, Any]) -> None:
        """Make a task after so many seconds, whatever became of the call."""

        def create() -> None:
            self._later.discard(handle)
            self.create(project, body)

        handle = asyncio.get_running_loop().call_later(seconds, create)
        self._later.add(handle)

    def stats(self) -> dict[str, Any]:
        """Counters of calls, tasks, tokens and temporary keys since the last reset."""
        issued = {"tokens": len(self.issued.tokens), "keys": len(self.issued.keys)}
        repeated = len(self.tasks.repeated)
        return {**self.record.stats(), "tasks": len(self.tasks.all), "repeated_names": repeated, "issued": issued}

    def stop(self) -> None:
        """End every wait."""
        self.stopping.set()
        for handle in self._later:
            handle.cancel()

    def recorded(self, operation: str, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A route: the call is recorded, refusals become answers, every answer says its request id."""

        async def answer(request: web.Request) -> web.StreamResponse:
            call = self._arrived(operation, request)
            try:
                response = await self._refusable(handler, request, call)
                if not response.prepared:
                    response.headers.update(self.headers(call))
                return response
            finally:
                self.record.ended(call, self.clock())
                self.changed()

        return answer

    def headers(self, call: Call) -> dict[str, str]:
        """What every answer carries; a clock that is off shows in the date."""
        if not self.settings.clock_offset:
            return {"X-Request-Id": call.request_id}
        return {"X-Request-Id": call.request_id, "Date": formatdate(self.now(), usegmt=True)}

    async def _refusable(self, handler: Handler, request: web.Request, call: Call) -> web.StreamResponse:
        try:
            response = await handler(request, call)
        except Refusal as refusal:
            call.error_code = refusal.code
            body = refusal.body(call.request_id)
            response = web.json_response(body, status=refusal.status, headers=refusal.headers)
        if not isinstance(response, NoAnswer):
            call.status = response.status
        return response

    def _arrived(self, operation: str, request: web.Request) -> Call:
        call = Call(
            at=self.clock(),
            operation=operation,
            method=request.method,
            path=request.raw_path,
            project=request.match_info.get("project"),
            request_id=uuid4().hex,
            headers=masked(request.headers),
        )
        self.record.arrived(call)
        self.changed()
        return call

"""State shared by all APIs of one fake DCS: settings, tasks, calls, the service's clock, interruptible waits."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from typing import Any
from uuid import uuid4

from aiohttp import web

from worker.tools.fake_dcs.authentication import IssuedCredentials
from worker.tools.fake_dcs.call_log import CallLog, CallRecord, redact_headers
from worker.tools.fake_dcs.error_responses import ErrorResponse
from worker.tools.fake_dcs.fault_selection import FaultSelector, QuotaWindows
from worker.tools.fake_dcs.settings import FakeDcsSettings
from worker.tools.fake_dcs.tasks import MigrationTask, TaskStore

RouteHandler = Callable[[web.Request, CallRecord], Awaitable[web.StreamResponse]]


class ConnectionClosed(web.Response):
    """Returned by a handler that has closed the connection instead of answering."""


class ServerState:
    """The state of one fake DCS. `clock` returns epoch seconds."""

    def __init__(self, settings: FakeDcsSettings, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.url = ""
        self.clock = clock
        self.stopping = asyncio.Event()
        self._change_event = asyncio.Event()
        self._pending_creates: set[asyncio.TimerHandle] = set()
        self.clear()

    def __repr__(self) -> str:
        return f"<ServerState {self.tasks} {self.call_log}>"

    def clear(self) -> None:
        """Remove all tasks, calls, tokens, counts and pending creates; the settings stay."""
        self.tasks = TaskStore()
        self.call_log = CallLog()
        self.faults = FaultSelector()
        self.quotas = QuotaWindows()
        self.issued = IssuedCredentials()
        for handle in self._pending_creates:
            handle.cancel()
        self._pending_creates.clear()
        self.notify_change()

    def now(self) -> float:
        """The service's time in epoch seconds: ours plus the clock offset."""
        return self.clock() + self.settings.clock_offset

    def notify_change(self) -> None:
        """Wake all tasks in `wait_until`."""
        self._change_event.set()
        self._change_event = asyncio.Event()

    async def wait_until(self, condition: Callable[[], bool], timeout: float) -> None:
        """Wait until a condition on the state holds. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not condition():
                await self._change_event.wait()

    async def pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until the fake DCS stops."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return

    def create(self, project: str, body: Mapping[str, Any]) -> MigrationTask:
        """Create a task now."""
        now = self.clock()
        task = self.tasks.create(project, body, now, self.settings.visibility)
        self.call_log.count_second("tasks", now)
        self.notify_change()
        return task

    def create_later(self, seconds: float, project: str, body: Mapping[str, Any]) -> None:
        """Create a task after `seconds`, independently of the call's end."""

        def create() -> None:
            self._pending_creates.discard(handle)
            self.create(project, body)

        handle = asyncio.get_running_loop().call_later(seconds, create)
        self._pending_creates.add(handle)

    def stats(self) -> dict[str, Any]:
        """Counters of calls, tasks, tokens and temporary keys since the last reset."""
        issued = {"tokens": len(self.issued.tokens), "keys": len(self.issued.keys)}
        repeated = len(self.tasks.repeated)
        return {**self.call_log.stats(), "tasks": len(self.tasks.all), "repeated_names": repeated, "issued": issued}

    def stop(self) -> None:
        """End every wait."""
        self.stopping.set()
        for handle in self._pending_creates:
            handle.cancel()

    def recorded_route(
        self, operation: str, handler: RouteHandler
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Wrap a handler: the call is recorded, an ErrorResponse becomes an answer, every answer has a request id."""

        async def answer(request: web.Request) -> web.StreamResponse:
            call = self._record_arrival(operation, request)
            try:
                response = await self._call_handler(handler, request, call)
                if not response.prepared:
                    response.headers.update(self.headers(call))
                return response
            finally:
                self.call_log.call_ended(call, self.clock())
                self.notify_change()

        return answer

    def headers(self, call: CallRecord) -> dict[str, str]:
        """Headers of every answer: the request id, and the date if the clock has an offset."""
        if not self.settings.clock_offset:
            return {"X-Request-Id": call.request_id}
        return {"X-Request-Id": call.request_id, "Date": formatdate(self.now(), usegmt=True)}

    async def _call_handler(self, handler: RouteHandler, request: web.Request, call: CallRecord) -> web.StreamResponse:
        try:
            response = await handler(request, call)
        except ErrorResponse as error:
            call.error_code = error.code
            body = error.body(call.request_id)
            response = web.json_response(body, status=error.status, headers=error.headers)
        if not isinstance(response, ConnectionClosed):
            call.status = response.status
        return response

    def _record_arrival(self, operation: str, request: web.Request) -> CallRecord:
        call = CallRecord(
            at=self.clock(),
            operation=operation,
            method=request.method,
            path=request.raw_path,
            project=request.match_info.get("project"),
            request_id=uuid4().hex,
            headers=redact_headers(request.headers),
        )
        self.call_log.call_arrived(call)
        self.notify_change()
        return call

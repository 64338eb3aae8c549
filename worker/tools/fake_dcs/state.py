"""State of one fake DCS: settings, tasks, calls, credentials, positions in fault scripts, quota windows, time.

A subclass may override `now` and `headers` and set another `authenticator`.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from aiohttp import web

from worker.tools.fake_dcs.authentication import Authenticator
from worker.tools.fake_dcs.call_log import CallLog, CallRecord, redact_headers
from worker.tools.fake_dcs.faults import ORDINARY_STEP, ErrorResponse, FaultStep, parse_step
from worker.tools.fake_dcs.settings import FakeDcsSettings, Quota
from worker.tools.fake_dcs.tasks import MigrationTask, TaskStore

RouteHandler = Callable[[web.Request, CallRecord], Awaitable[web.StreamResponse]]


class ConnectionClosed(web.Response):
    """Returned by a handler that has closed the connection instead of answering."""


class FaultSelector:
    """Selects the fault step of a call; counts the position in every script."""

    def __init__(self) -> None:
        self._played: Counter[tuple[str, str]] = Counter()

    def step_for_create(self, settings: FakeDcsSettings, project: str, name: str) -> FaultStep:
        """The step of the next POST of a task name: from its script, else its project's, else by chance."""
        number = self._next("scripts", name)
        if name in settings.scripts:
            return _script_step(settings.scripts[name], number)
        if project in settings.project_scripts:
            return _script_step(settings.project_scripts[project], self._next("project_scripts", project))
        return _step_by_chance(settings, name, number)

    def step_for_call(self, settings: FakeDcsSettings, operation: str) -> FaultStep:
        """The step of the next call that creates nothing."""
        if operation not in settings.operation_scripts:
            return ORDINARY_STEP
        return _script_step(settings.operation_scripts[operation], self._next("operation_scripts", operation))

    def restart_changed_scripts(self, old: FakeDcsSettings, new: FakeDcsSettings) -> None:
        """Restart every script whose steps differ between two settings."""
        for member in ("scripts", "project_scripts", "operation_scripts"):
            before, after = getattr(old, member), getattr(new, member)
            for name in before.keys() | after.keys():
                if before.get(name) != after.get(name):
                    self._played.pop((member, name), None)

    def _next(self, member: str, name: str) -> int:
        number = self._played[member, name]
        self._played[member, name] += 1
        return number


def _script_step(script: Sequence[str], number: int) -> FaultStep:
    return parse_step(script[min(number, len(script) - 1)])


def _step_by_chance(settings: FakeDcsSettings, name: str, number: int) -> FaultStep:
    if not settings.faults:
        return ORDINARY_STEP
    left = random.Random(f"{settings.seed}/{name}/{number}").random()
    for text, probability in settings.faults.items():
        left -= probability
        if left < 0:
            return parse_step(text)
    return ORDINARY_STEP


class QuotaWindows:
    """Sliding windows of the admitted calls, of all projects together or per project."""

    def __init__(self) -> None:
        self._admitted: dict[str, deque[float]] = {}

    def exceeded_quota(self, settings: FakeDcsSettings, project: str, now: float) -> Quota | None:
        """The quota that a call at `now` (seconds) exceeds; None if it exceeds none, then the call is counted."""
        own = settings.project_quotas.get(project)
        quota = own or settings.quota
        if quota is None:
            return None
        shared = own is None and quota.per == "everyone"
        window = self._admitted.setdefault("" if shared else project, deque())
        while window and window[0] <= now - quota.window:
            window.popleft()
        exceeded = len(window) >= quota.limit
        if not exceeded or quota.counts_refused:
            window.append(now)
        return quota if exceeded else None


class ServerState:
    """The state of one fake DCS. `clock` returns epoch seconds."""

    def __init__(self, settings: FakeDcsSettings, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.url = ""
        self.clock = clock
        self.stopping = asyncio.Event()
        self.tasks = TaskStore()
        self.call_log = CallLog()
        self.faults = FaultSelector()
        self.quotas = QuotaWindows()
        self.authenticator = Authenticator()

    def __repr__(self) -> str:
        return f"<ServerState {self.tasks} {self.call_log}>"

    def now(self) -> float:
        """The service's time in epoch seconds."""
        return self.clock()

    def headers(self, call: CallRecord) -> dict[str, str]:
        """Headers of every answer."""
        return {"X-Request-Id": call.request_id}

    async def pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until the fake DCS stops."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return

    def create(self, project: str, body: Mapping[str, Any]) -> MigrationTask:
        """Create a task now."""
        return self.tasks.create(project, body, self.clock(), self.settings.visibility)

    def create_later(self, seconds: float, project: str, body: Mapping[str, Any]) -> None:
        """Create a task after `seconds`, independently of the call's end, unless the fake DCS stops before."""

        def create() -> None:
            if not self.stopping.is_set():
                self.create(project, body)

        asyncio.get_running_loop().call_later(seconds, create)

    def stats(self) -> dict[str, Any]:
        """Counters of calls, tasks and issued credentials."""
        tasks = {"tasks": len(self.tasks.all), "repeated_names": len(self.tasks.repeated)}
        return {**self.call_log.stats(), **tasks, "issued": self.authenticator.issued()}

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

        return answer

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
        return call

"""State of one fake DCS: settings, tasks, calls, credentials, positions in fault scripts, quota windows, time.

A call is recorded when it arrives, so that a call without an answer is visible too; its status stays null. Tokens,
signatures and passwords are not stored: their header gets a fingerprint, which distinguishes two tokens.
A subclass of the state may override `now` and `headers` and set another `authenticator`.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from sys import intern
from typing import Any
from uuid import uuid4

from aiohttp import web

from worker.tools.fake_dcs.authentication import Authenticator
from worker.tools.fake_dcs.faults import ORDINARY_STEP, ErrorResponse, FaultStep, parse_step
from worker.tools.fake_dcs.settings import FakeDcsSettings, Quota
from worker.tools.fake_dcs.tasks import MigrationTask, TaskStore

MAX_CALLS_KEPT = 100_000
MAX_BODY_CHARACTERS_KEPT = 4096

_SECRET_HEADERS = frozenset({"x-auth-token", "x-subject-token", "x-security-token", "x-metadata-token"})


@dataclass(slots=True)
class CallRecord:
    """One call: `at` in epoch seconds, `seconds` its duration, `step` its fault step."""

    at: float
    operation: str
    method: str
    path: str
    project: str | None
    request_id: str
    headers: dict[str, str]
    name: str | None = None
    body: str | None = None
    step: str | None = None
    status: int | None = None
    error_code: str | None = None
    seconds: float | None = None


class CallLog:
    """The calls since the last reset, and counters by operation and status."""

    def __init__(self) -> None:
        self.calls: deque[CallRecord] = deque(maxlen=MAX_CALLS_KEPT)
        self.in_flight = 0
        self._count_by_status: Counter[tuple[str, str]] = Counter()

    def call_arrived(self, call: CallRecord) -> None:
        """Record a call that arrived."""
        self.calls.append(call)
        self.in_flight += 1

    def call_ended(self, call: CallRecord, now: float) -> None:
        """Record how a call ended: with a status, or without an answer."""
        self.in_flight -= 1
        call.seconds = round(now - call.at, 6)
        self._count_by_status[call.operation, str(call.status or "no answer")] += 1

    def stats(self) -> dict[str, Any]:
        """Calls by operation and status, and calls in flight."""
        calls: dict[str, dict[str, int]] = {}
        for (operation, status), number in sorted(self._count_by_status.items()):
            calls.setdefault(operation, {})[status] = number
        return {"calls": calls, "under_way": self.in_flight}


def redact_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers without secrets; equal texts of many calls share one string."""
    return {intern(str(name)): intern(_redact_header(name.lower(), value)) for name, value in headers.items()}


def _redact_header(name: str, value: str) -> str:
    if name == "authorization":
        signed, mark, _ = value.partition("Signature=")
        return f"{signed}{mark}{_fingerprint(value)}" if mark else _fingerprint(value)
    return _fingerprint(value) if name in _SECRET_HEADERS else value


def _fingerprint(secret: str) -> str:
    return "***" + sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()[:8]


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

    def now(self) -> float:
        """The service's time in epoch seconds."""
        return self.clock()

    def headers(self, call: CallRecord) -> dict[str, str]:
        """Headers of every answer."""
        return {"X-Request-Id": call.request_id}

    async def pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until the fake DCS stops."""
        if not seconds:
            return
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
        """Counters of calls and tasks."""
        tasks = {"tasks": len(self.tasks.all), "repeated_names": len(self.tasks.repeated)}
        return {**self.call_log.stats(), **tasks}

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

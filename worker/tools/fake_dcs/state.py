"""State of one fake DCS: settings, tasks, calls, credentials, positions in fault scripts, quota windows, time.

A call is recorded when it arrives, so that a call without an answer is visible too; its status stays null. Tokens,
signatures and passwords are not stored: their header gets a fingerprint, which distinguishes two tokens.
A subclass of the state may override `now` and `headers`.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
READ_OPERATIONS = frozenset({"list", "show", "job"})

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

    @contextmanager
    def recorded(self, call: CallRecord, clock: Callable[[], float]) -> Iterator[None]:
        """Record a call that arrives, and how it ends: with a status, or without an answer."""
        self.calls.append(call)
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            call.seconds = round(clock() - call.at, 6)
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
    """Selects the fault step of a call; counts the position in every script, which restarts when it is changed."""

    def __init__(self) -> None:
        self._met: Counter[tuple[str, str]] = Counter()
        self._positions: dict[tuple[str, str], tuple[Sequence[str], int]] = {}

    def step_for_create(self, settings: FakeDcsSettings, project: str, name: str) -> FaultStep:
        """The step of the next POST of a task name: from its script, else its project's, else by chance."""
        step = self._step_by_chance(settings, "create", name)
        if name in settings.scripts:
            return self._next_step("task", name, settings.scripts[name])
        if project in settings.project_scripts:
            return self._next_step("project", project, settings.project_scripts[project])
        return step

    def step_for_call(self, settings: FakeDcsSettings, operation: str) -> FaultStep:
        """The step of the next call that creates nothing."""
        if operation in settings.operation_scripts:
            return self._next_step("operation", operation, settings.operation_scripts[operation])
        step = self._step_by_chance(settings, operation) if operation in READ_OPERATIONS else ORDINARY_STEP
        return step if step.meets_all_calls else ORDINARY_STEP

    def _next_step(self, kind: str, name: str, script: Sequence[str]) -> FaultStep:
        played, number = self._positions.get((kind, name), (script, 0))
        if played != script:
            number = 0
        self._positions[kind, name] = (script, number + 1)
        return parse_step(script[min(number, len(script) - 1)])

    def _step_by_chance(self, settings: FakeDcsSettings, operation: str, name: str = "") -> FaultStep:
        number = self._met[operation, name]
        self._met[operation, name] += 1
        left = random.Random(f"{settings.seed}/{name or operation}/{number}").random() if settings.faults else 0.0
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
        if not exceeded:
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
        settings = self.settings
        times = {"visible": settings.visibility, "provisioned": settings.provisioning}
        task = self.tasks.create(project, body, self.clock(), **times)
        if settings.description_bytes is not None and task.description:
            task.description = task.description.encode()[: settings.description_bytes].decode(errors="replace")
        return task

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
            call = CallRecord(
                at=self.clock(),
                operation=operation,
                method=request.method,
                path=request.raw_path,
                project=request.match_info.get("project"),
                request_id=uuid4().hex,
                headers=redact_headers(request.headers),
            )
            with self.call_log.recorded(call, self.clock):
                try:
                    response = await handler(request, call)
                except ErrorResponse as error:
                    call.error_code, body = error.code, error.body(call.request_id)
                    response = web.json_response(body, status=error.status, headers=error.headers)
                except ConnectionError:  # the caller is gone, for example killed
                    response = ConnectionClosed()
                if not isinstance(response, ConnectionClosed):
                    call.status = response.status
                if not response.prepared:
                    response.headers.update(self.headers(call))
                return response

        return answer

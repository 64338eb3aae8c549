"""Fake DCS with everything that only tests and storms need, on top of `worker.tools.fake_dcs`.

Outages that refuse connections, forbidden operations, unusual list rows, a clock that is ahead, the list of projects.
"""

import asyncio
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import formatdate
from functools import partial
from html import escape
from typing import Any, Literal
from unicodedata import normalize

from aiohttp import web
from pydantic import Field

from worker.tools.fake_dcs import FakeDcs, FakeDcsSettings, MigrationTask
from worker.tools.fake_dcs.apis import DcsApi, IamApi
from worker.tools.fake_dcs.authentication import ReceivedRequest
from worker.tools.fake_dcs.faults import ErrorResponse
from worker.tools.fake_dcs.platform import PlatformApi
from worker.tools.fake_dcs.responses import PendingResponse, respond
from worker.tools.fake_dcs.server import LISTEN_BACKLOG
from worker.tools.fake_dcs.settings import Seconds
from worker.tools.fake_dcs.state import CallRecord, ServerState

TEXT_FORMS: dict[str, Callable[[str], str]] = {
    "as sent": str,
    "trimmed": str.strip,
    "composed": partial(normalize, "NFC"),
    "escaped": escape,
    "lower": str.lower,
    "joined": lambda text: " ".join(text.split()),
    "three bytes": partial(re.compile("[\U00010000-\U0010ffff]").sub, "?"),
    "longer": lambda text: f"{text}}}",
}
"""Forms in which services keep texts; a column of three-byte characters has no emoji."""


class FaultySettings(FakeDcsSettings):
    """Settings of the fake DCS, and of what only tests need.

    - `down`: `unavailable` answers every API call with 503, `refuse` stops listening; `down_seconds`: duration.
    - `forbidden`: operations answered with 403.
    - `descriptions`: whether list rows have one. `dates`: their style, and that of details.
    - `mixed_types`: beside every listed task a `backupfile_import` row of the same name.
    - `projects`: id by name, as IAM lists them.
    - `clock_offset`: seconds by which the service's clock is ahead.
    - `text_form`: how names and descriptions of new tasks are kept.
    - `largest_page`: rows of a page at most, whatever limit is asked for.
    """

    provisioning: Seconds = 0.0
    down: Literal["no", "unavailable", "refuse"] = "no"
    down_seconds: Seconds | None = None
    forbidden: frozenset[Literal["create", "list", "show"]] = frozenset()
    descriptions: bool = True
    dates: Literal["documented", "slashes", "digits", "nonsense", "null"] = "documented"
    mixed_types: bool = False
    projects: dict[str, str] = Field(default={"cn-north-4": "0123456789abcdef0123456789abcdef"})
    clock_offset: float = 0.0
    text_form: str = "as sent"
    largest_page: int | None = None


class FaultyDcs(FakeDcs):
    """`async with FaultyDcs(scripts={"x": ["drop"]}) as fake_dcs:` serves on 127.0.0.1 and a free port."""

    state: "FaultyState"
    _recovery: asyncio.Task[None] | None = None
    _site: web.SockSite | None = None
    _socket: socket.socket | None = None

    def __init__(self, *, clock: Callable[[], float] = time.time, **settings: Any) -> None:
        super().__init__(FaultySettings.model_validate(settings), clock=clock)

    def new_state(self, settings: FakeDcsSettings | None, clock: Callable[[], float]) -> ServerState:
        """A state with its own clock and authenticator."""
        assert isinstance(settings, FaultySettings)
        return FaultyState(settings, clock)

    def routes(self) -> list[web.RouteDef]:
        """The routes of all APIs, recorded."""
        apis = FaultyDcsApi, IamApi, ProjectsApi, PlatformApi
        return [route for api in apis for route in api(self.state).routes()]

    @property
    def settings(self) -> FaultySettings:
        """The current settings."""
        return self.state.settings

    def on_page(self, call: Callable[[], None]) -> None:
        """Call this after each page of the list."""
        self.state.on_page = call

    def add_task(self, task: MigrationTask) -> None:
        """Add a task that no call created."""
        self.state.tasks.add(task)

    def stats(self) -> dict[str, Any]:
        """Counters, as `/_stats` shows them, and the number of issued credentials by kind."""
        authenticator = self.state.authenticator
        issued = {"tokens": len(authenticator.tokens), "keys": len(authenticator.keys)}
        return {**self.state.stats(), "issued": issued}

    async def wait_until(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Wait until a condition on calls or tasks holds. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.005)

    async def apply(self, patch: Mapping[str, Any] | None = None, /, **members: Any) -> None:
        """Change settings by a JSON merge patch, with immediate effect. Raises ValidationError."""
        patch = {**(patch or {}), **members}
        await super().apply(patch)
        if not patch.keys().isdisjoint({"down", "down_seconds"}):
            await self._apply_outage()

    async def listen(self) -> None:
        """Accept connections, unless the settings refuse them; the port stays reserved then."""
        self._bind()
        await self._apply_outage()

    async def __aexit__(self, *exc: object) -> None:
        if self._recovery is not None:
            self._recovery.cancel()
        await super().__aexit__(*exc)
        if self._socket is not None:
            self._socket.close()

    async def _apply_outage(self) -> None:
        settings = self.settings
        if self._recovery is not None:
            self._recovery.cancel()
            self._recovery = None
        if settings.down == "refuse":
            await self._refuse_connections()
        elif self._site is None:
            assert self._socket is not None
            self._site = web.SockSite(self.runner, self._socket, backlog=LISTEN_BACKLOG)
            await self._site.start()
        if settings.down != "no" and settings.down_seconds is not None:
            self._recovery = asyncio.create_task(self._recover(settings.down_seconds))

    async def _refuse_connections(self) -> None:
        """Stop listening and reset all connections, as when a machine dies."""
        if self._site is None:
            return
        await self._site.stop()
        self._site = None
        for connection in self.runner.server.connections if self.runner.server else ():
            if connection.transport is not None:
                connection.transport.abort()
        async with asyncio.timeout(1.0):  # some event loops close the listening socket a moment after they report it
            while not self._is_bound():
                await asyncio.sleep(0.02)

    def _is_bound(self) -> bool:
        try:
            self._bind()
        except OSError:
            return False
        return True

    def _bind(self) -> None:
        """Reserve the port without listening, so that connections are refused."""
        bound = socket.socket()
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(self.address)
        except OSError:
            bound.close()
            raise
        self._socket, self.address = bound, bound.getsockname()

    async def _recover(self, seconds: float) -> None:
        await self.state.pause(seconds)
        if not self.state.stopping.is_set():
            self._recovery = None
            await self.apply(down="no", down_seconds=None)


class FaultyState(ServerState):
    """State whose clock may be ahead."""

    settings: FaultySettings

    def __init__(self, settings: FaultySettings, clock: Callable[[], float]) -> None:
        super().__init__(settings, clock)
        self.on_page: Callable[[], None] = lambda: None

    def now(self) -> float:
        """The service's time in epoch seconds: ours plus the clock offset."""
        return self.clock() + self.settings.clock_offset

    def headers(self, call: CallRecord) -> dict[str, str]:
        """Headers of every answer: the date too if the clock has an offset."""
        date = {"Date": formatdate(self.now(), usegmt=True)} if self.settings.clock_offset else {}
        return super().headers(call) | date

    def create(self, project: str, body: Mapping[str, Any]) -> MigrationTask:
        """Create a task now, its texts in the form of the settings."""
        texts = {
            field: TEXT_FORMS[self.settings.text_form](body[field])
            for field in ("name", "description")
            if body.get(field)
        }
        return super().create(project, {**body, **texts})


class FaultyDcsApi(DcsApi):
    """The DCS API with outages, forbidden operations, and rows of other shapes."""

    _state: FaultyState

    async def admit(self, request: web.Request, call: CallRecord, body: bytes) -> str:
        """The project of a call that may act. Raises ErrorResponse."""
        if self._state.settings.down != "no":
            raise ErrorResponse(503, "APIGW.0601", "The service is not available")
        project = await super().admit(request, call, body)
        if call.operation in self._state.settings.forbidden:
            raise ErrorResponse(403, "DCS.2003")
        return project

    def listed(self, tasks: list[MigrationTask]) -> list[MigrationTask]:
        """The tasks that a list shows; with mixed types each beside an import of the same name."""
        if not self._state.settings.mixed_types:
            return tasks
        shown: list[MigrationTask] = []
        for task in tasks:
            shown.append(replace(task, task_id=f"import-{task.task_id}", migration_type="backupfile_import"))
            shown.append(task)
        return shown

    def rows(self, tasks: list[MigrationTask]) -> list[dict[str, Any]]:
        """The list rows of tasks."""
        tasks = [self._ahead(task) for task in tasks]
        rows = super().rows(tasks)
        for task, row in zip(tasks, rows, strict=True):
            row["created_at"] = self._date(task, row["created_at"])
            if not self._state.settings.descriptions:
                del row["description"]
        return rows

    def shown(self, task: MigrationTask) -> dict[str, Any]:
        """The detail of a task."""
        task = self._ahead(task)
        shown = super().shown(task)
        return shown | {"created_at": self._date(task, shown["created_at"])}

    async def list(self, request: web.Request, call: CallRecord) -> web.StreamResponse:
        """List one page, which may be shorter than asked for."""
        if (largest := self._state.settings.largest_page) is not None:
            query = {**request.query, "limit": str(min(largest, int(request.query.get("limit", "10"))))}
            request = request.clone(rel_url=request.rel_url.with_query(query))
        response = await super().list(request, call)
        self._state.on_page()
        return response

    def _ahead(self, task: MigrationTask) -> MigrationTask:
        return replace(task, created=task.created + self._state.settings.clock_offset)

    def _date(self, task: MigrationTask, documented: str) -> str | None:
        moment = datetime.fromtimestamp(task.created, UTC)
        styles = {
            "documented": documented,
            "slashes": f"{moment:%Y/%m/%d %H:%M:%S}",
            "digits": f"{moment:%Y%m%d%H%M}",
            "nonsense": "the day before yesterday",
            "null": None,
        }
        return styles[self._state.settings.dates]


class ProjectsApi:
    """IAM's list of projects. Source: IAM API, Querying Project Information."""

    def __init__(self, state: FaultyState) -> None:
        self._state = state

    def routes(self) -> list[web.RouteDef]:
        """The list."""
        return [web.get("/v3/projects", self._state.recorded_route("projects", self.projects), allow_head=False)]

    async def projects(self, request: web.Request, call: CallRecord) -> web.StreamResponse:
        """List all projects, or the project with a name."""

        def answer() -> web.Response:
            received = ReceivedRequest(request, b"", None, self._state.now())
            self._state.authenticator.check(self._state.settings.auth, received)
            wanted = request.query.get("name")
            rows = [
                {"id": project, "name": name, "enabled": True, "domain_id": "domain", "is_domain": False}
                for name, project in self._state.settings.projects.items()
                if wanted in {None, name}
            ]
            return web.json_response({"projects": rows, "links": {"self": None}})

        step = self._state.faults.step_for_call(self._state.settings, "projects")
        return await respond(PendingResponse(self._state, request, call, answer), step)

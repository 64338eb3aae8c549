"""One submission: a temporary database of its requests and their outcomes, and the sender that works through it.

Requests are sent at a limited rate with publisher confirms; outcomes are read from events.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Literal

from schemas.client import read_event
from schemas.event import MigrationSucceeded
from worker.bootstrap.components import brokers
from worker.cli.progress import Pacer, ProgressDisplay
from worker.config import Settings
from worker.rabbit.follower import Events, following
from worker.rabbit.reach import reached
from worker.rabbit.sender import Sender, sending

CONNECTION_NAME: Final = "dcs-worker submit"
PAGE_ROWS: Final = 500

_SCHEMA: Final = """
CREATE TABLE requests (
    line INTEGER PRIMARY KEY, project TEXT, request TEXT, fingerprint TEXT, body BLOB,
    succeeded INTEGER, outcome TEXT, said TEXT,
    UNIQUE (project, request)
)
"""


@dataclass(frozen=True, slots=True)
class SubmittedRequest:
    """One request: its line in the file, its id, its outcome and the message of the outcome, if known."""

    line: int
    request_id: str
    outcome: str | None
    said: str | None


class Ledger:
    """The requests of one submission, by project and request id; deleted when closed."""

    def __init__(self) -> None:
        # With the empty name SQLite uses a temporary file, and keeps it in memory while it is small.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(_SCHEMA)
        self._database.execute("BEGIN")
        self.requests = 0
        self.answered = 0
        self.repeats = 0

    def __repr__(self) -> str:
        return f"<Ledger: {self.requests} requests>"

    def close(self) -> None:
        """Delete the database."""
        self._database.close()

    def add(
        self, line: int, project_id: str, request_id: str, fingerprint: str, body: bytes
    ) -> int | Literal["new", "repeat"]:
        """Add a request. Returns a line number if that line has the same id for another task."""
        try:
            self._database.execute(
                "INSERT INTO requests (line, project, request, fingerprint, body) VALUES (?, ?, ?, ?, ?)",
                (line, project_id, request_id, fingerprint, body),
            )
        except sqlite3.IntegrityError:
            earlier, same = self._database.execute(
                "SELECT line, fingerprint = ? FROM requests WHERE project = ? AND request = ?",
                (fingerprint, project_id, request_id),
            ).fetchone()
            self.repeats += same
            return "repeat" if same else int(earlier)
        self.requests += 1
        return "new"

    def bodies(self) -> Iterator[bytes]:
        """The message bodies in the order of the file."""
        line = -1
        while rows := self._database.execute(
            "SELECT line, body FROM requests WHERE line > ? ORDER BY line LIMIT ?", (line, PAGE_ROWS)
        ).fetchall():
            yield from (body for _, body in rows)
            line = rows[-1][0]

    def record_outcome(
        self, project_id: str, request_id: str, outcome: str, said: str | None, *, succeeded: bool
    ) -> None:
        """Store the first outcome of a request; ignored for other requests and for a second outcome."""
        updated = self._database.execute(
            "UPDATE requests SET outcome = ?, said = ?, succeeded = ? "
            "WHERE project = ? AND request = ? AND outcome IS NULL",
            (outcome, said, succeeded, project_id, request_id),
        )
        self.answered += updated.rowcount

    def outcomes(self) -> dict[str, int]:
        """Number of requests by outcome, the most frequent first."""
        query = "SELECT outcome, COUNT(*) FROM requests WHERE outcome IS NOT NULL GROUP BY outcome ORDER BY 2 DESC"
        return dict(self._database.execute(query).fetchall())

    def unsuccessful(self) -> Iterator[SubmittedRequest]:
        """Requests that failed or have no outcome, in the order of the file."""
        query = "SELECT line, request, outcome, said FROM requests WHERE succeeded IS NOT 1 ORDER BY line"
        return (SubmittedRequest(*row) for row in self._database.execute(query))


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """Maximum requests per second, and seconds to wait for outcomes (None: do not wait)."""

    rate: float | None
    wait_seconds: float | None


class Submission:
    """Sends the requests of the ledger and stores their outcomes there."""

    def __init__(self, settings: Settings, ledger: Ledger, options: SubmitOptions) -> None:
        self._settings = settings
        self._ledger = ledger
        self._options = options
        self.confirmed = 0
        self.seconds = 0.0
        """Duration of sending."""

    def __repr__(self) -> str:
        return f"<Submission: {self.confirmed} of {self._ledger.requests} confirmed>"

    async def run(self) -> None:
        """Send all requests and, if configured, wait for their outcomes.

        Raises UnreachableError, SendError and FollowError; then `confirmed` is the number of requests sent.
        """
        async with reached(brokers(self._settings), CONNECTION_NAME) as connection:
            if self._options.wait_seconds is None:
                async with sending(connection, self._settings.request_exchange) as sender:
                    await self._send(sender)
                return
            async with (
                following(connection, self._settings.event_exchange) as events,
                sending(connection, self._settings.request_exchange) as sender,
                self._collecting(events) as collecting,
            ):
                await self._send(sender)
                await self._wait(collecting, self._options.wait_seconds)

    async def _send(self, sender: Sender) -> None:
        pacer, started = Pacer(self._options.rate), time.monotonic()
        with ProgressDisplay("sent", self._ledger.requests) as display:

            def confirmed(count: int) -> None:
                self.confirmed = count
                display.update(count)

            async with sender.batch(confirmed) as batch:
                for body in self._ledger.bodies():
                    await pacer.wait()
                    await batch.put(body)
        self.seconds = time.monotonic() - started

    @asynccontextmanager
    async def _collecting(self, events: Events) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self._collect(events))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _collect(self, events: Events) -> None:
        while self._ledger.answered < self._ledger.requests:
            event = await anext(events)
            with suppress(ValueError):  # not an event of the worker
                self._record(event.body)

    def _record(self, body: bytes) -> None:
        event = read_event(body)
        if event.project_id is None or event.request_id is None:
            return
        key = (event.project_id, event.request_id)
        if isinstance(event, MigrationSucceeded):
            self._ledger.record_outcome(*key, event.resolution, None, succeeded=True)
        else:
            self._ledger.record_outcome(*key, event.reason.value, event.message, succeeded=False)

    async def _wait(self, collecting: asyncio.Task[None], wait_seconds: float) -> None:
        """Return when every request has an outcome, at the latest after `wait_seconds`. Raises FollowError."""
        end = time.monotonic() + wait_seconds
        with ProgressDisplay("answered", self._ledger.requests) as display:
            display.start_at(self._ledger.answered)
            while not collecting.done() and time.monotonic() < end:
                await asyncio.wait((collecting,), timeout=min(0.1, wait_seconds))
                display.update(self._ledger.answered)
        if collecting.done():
            collecting.result()

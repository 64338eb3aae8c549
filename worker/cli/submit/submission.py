"""Sends the requests of a ledger at a limited rate, waits for publisher confirms, and collects outcomes from events."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from schemas.client import read_event
from schemas.event import MigrationSucceeded
from worker.bootstrap.components import brokers
from worker.cli.progress import Pacer, ProgressDisplay
from worker.cli.submit.ledger import Ledger
from worker.config import Settings
from worker.rabbit.tools.broker_access import open_connection
from worker.rabbit.tools.event_stream import EventStream, open_event_stream
from worker.rabbit.tools.sender import Sender, open_sender

CONNECTION_NAME: Final = "dcs-worker submit"


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

        Raises BrokerError; then `confirmed` is the number of requests sent.
        """
        async with open_connection(brokers(self._settings), CONNECTION_NAME) as connection:
            if self._options.wait_seconds is None:
                async with open_sender(connection, self._settings.request_exchange) as sender:
                    await self._send(sender)
                return
            async with (
                open_event_stream(connection, self._settings.event_exchange) as events,
                open_sender(connection, self._settings.request_exchange) as sender,
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
    async def _collecting(self, events: EventStream) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self._collect(events))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _collect(self, events: EventStream) -> None:
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
        """Return when every request has an outcome, at the latest after `wait_seconds`. Raises BrokerError."""
        end = time.monotonic() + wait_seconds
        with ProgressDisplay("answered", self._ledger.requests) as display:
            display.start_at(self._ledger.answered)
            while not collecting.done() and time.monotonic() < end:
                await asyncio.wait((collecting,), timeout=min(0.1, wait_seconds))
                display.update(self._ledger.answered)
        if collecting.done():
            collecting.result()

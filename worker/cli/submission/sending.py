"""Requests on their way: sent at a pace, each confirmed, and followed to their outcome."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from schemas.client import read_event
from schemas.event import MigrationSucceeded
from worker.bootstrap.from_settings import brokers
from worker.cli.progress import Display, Pace
from worker.cli.submission.ledger import Ledger
from worker.config import Settings
from worker.rabbit.follower import Events, following
from worker.rabbit.reach import reached
from worker.rabbit.sender import Sender, sending

CONNECTION: Final = "dcs-worker submit"


@dataclass(frozen=True, slots=True)
class Terms:
    """How to send: so many a second at most, and how long (seconds) to wait for outcomes; None: not at all."""

    rate: float | None
    patience: float | None


class Submission:
    """Sends what is in the ledger, and enters the outcomes there."""

    def __init__(self, settings: Settings, ledger: Ledger, terms: Terms) -> None:
        self._settings = settings
        self._ledger = ledger
        self._terms = terms
        self.confirmed = 0
        self.seconds = 0.0
        """How long sending took."""

    def __repr__(self) -> str:
        return f"<Submission: {self.confirmed} of {self._ledger.requests} confirmed>"

    async def run(self) -> None:
        """Return when all is sent and, if that is wanted, followed.

        Raises UnreachableError, SendError and FollowError; then `confirmed` says how far it came.
        """
        async with reached(brokers(self._settings), CONNECTION) as connection:
            if self._terms.patience is None:
                async with sending(connection, self._settings.request_exchange) as sender:
                    await self._send(sender)
                return
            async with (
                following(connection, self._settings.event_exchange) as events,
                sending(connection, self._settings.request_exchange) as sender,
                self._hearing(events) as heard,
            ):
                await self._send(sender)
                await self._wait(heard, self._terms.patience)

    async def _send(self, sender: Sender) -> None:
        pace, begun = Pace(self._terms.rate), time.monotonic()
        with Display("sent", self._ledger.requests) as display:

            def confirmed(count: int) -> None:
                self.confirmed = count
                display.to(count)

            async with sender.batch(confirmed) as batch:
                for body in self._ledger.bodies():
                    await pace.turn()
                    await batch.put(body)
        self.seconds = time.monotonic() - begun

    @asynccontextmanager
    async def _hearing(self, events: Events) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self._hear(events))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _hear(self, events: Events) -> None:
        while self._ledger.answered < self._ledger.requests:
            event = await anext(events)
            with suppress(ValueError):  # somebody else's
                self._enter(event.body)

    def _enter(self, body: bytes) -> None:
        event = read_event(body)
        if event.project_id is None or event.request_id is None:
            return
        key = (event.project_id, event.request_id)
        if isinstance(event, MigrationSucceeded):
            self._ledger.settle(*key, event.resolution, None, succeeded=True)
        else:
            self._ledger.settle(*key, event.reason.value, event.message, succeeded=False)

    async def _wait(self, heard: asyncio.Task[None], patience: float) -> None:
        """Until every request is answered, for `patience` seconds at most. Raises FollowError."""
        end = time.monotonic() + patience
        with Display("answered", self._ledger.requests) as display:
            display.starts_at(self._ledger.answered)
            while not heard.done() and time.monotonic() < end:
                await asyncio.wait((heard,), timeout=min(0.1, patience))
                display.to(self._ledger.answered)
        if heard.done():
            heard.result()

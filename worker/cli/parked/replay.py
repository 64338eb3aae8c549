"""`parked replay --yes`: sends parked requests to the requests queue, a canary first, whose outcomes are awaited."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from typing import Final

import typer

from schemas import identity
from schemas.client import read_event
from schemas.event import MigrationSucceeded
from worker.cli.common import EXIT_FAILED, print_json, printable
from worker.cli.parked.listing import RequestCount
from worker.cli.parked.request import NO_MATCH, ParkedRequest, open_parked_records, parked_queue, selected_requests
from worker.cli.parked.selection import Selection
from worker.cli.parked.timeline import describe_failure
from worker.cli.progress import Pacer, ProgressDisplay
from worker.config import Settings
from worker.policy.migration_request import Key
from worker.rabbit.tools.event_stream import Event, EventStream
from worker.rabbit.tools.parked_queue import HARMLESS, ParkedQueue

MAX_HOLD_SECONDS: Final = 1200.0
"""A replay stops after this: brokers requeue what is unacknowledged for 1,800 s (their default)."""
_CLOUDEVENTS_ID_HEADER: Final = "cloudEvents:id"


@dataclass(frozen=True, slots=True)
class CanaryOutcome:
    """Outcome of one request of the canary."""

    id: str
    succeeded: bool
    text: str


@dataclass(slots=True)
class Replay:
    """One replay: counts what was sent and prints it at the end, also after an error or a signal."""

    settings: Settings
    pacer: Pacer
    canary_size: int
    canary_timeout: float
    """Seconds to wait for the outcomes of the canary."""
    as_json: bool
    forget: Callable[[ParkedRequest], Awaitable[None]] = field(init=False)
    """Deletes what Redis knows of a request."""
    replayed: RequestCount = field(default_factory=RequestCount)
    left: RequestCount = field(default_factory=RequestCount)
    """Still parked, as far as they were read."""
    invalid: RequestCount = field(default_factory=RequestCount)
    """Of these, no valid requests."""
    position: int = 0
    """Number of parked messages that were read."""
    is_unfinished: bool = False
    """One more message may be in both queues."""
    outcomes: list[CanaryOutcome] = field(default_factory=list)
    """Of the canary."""
    started_at: float = field(default_factory=time.monotonic)

    async def run(self, selection: Selection) -> int:
        """Replay the selected requests; the exit status. Raises BrokerError."""
        async with open_parked_records(self.settings) as self.forget, parked_queue(self.settings) as queue:
            is_done = is_read = False
            try:
                is_done = await self._replay_all(queue, self._valid_requests(queue, selection))
                is_read = True
                await queue.release()
            finally:
                self.is_unfinished = queue.is_move_unfinished
                self._print_result(is_read=is_read, is_done=is_done)
            return selection.exit_status(len(self.replayed) + len(self.left)) if is_done else EXIT_FAILED

    async def _valid_requests(self, queue: ParkedQueue, selection: Selection) -> AsyncIterator[ParkedRequest]:
        async for batch in selected_requests(queue, self.settings, selection):
            self.position = queue.position - len(batch)
            for request in batch:
                self.position += 1
                if request.parsed is not None:
                    yield request
                else:
                    self.left.add(request)
                    self.invalid.add(request)

    async def _replay_all(self, queue: ParkedQueue, requests: AsyncIterator[ParkedRequest]) -> bool:
        """Replay the canary, then the others; whether all were. The others are counted if not."""
        first: list[ParkedRequest] = []
        while len(first) < self.canary_size and (request := await anext(requests, None)) is not None:
            first.append(request)
        is_going_on = not first or await self._run_canary(queue, first)
        is_shown = is_going_on and queue.count > len(first)
        with ProgressDisplay("checked", queue.count) if is_shown else nullcontext() as display:
            if display is not None:
                display.start_at(self.position)
            async for request in requests:
                if is_going_on and time.monotonic() - self.started_at > MAX_HOLD_SECONDS:
                    stopped = f"Stopped after {MAX_HOLD_SECONDS:g} s; the other requests stay parked."
                    typer.echo(f"{stopped} Repeat the command to go on.", err=True)
                    is_going_on = False
                if not is_going_on:
                    self.left.add(request)
                    continue
                await self._replay(queue, request)
                if display is not None:
                    display.update(self.position)
        return is_going_on

    async def _run_canary(self, queue: ParkedQueue, first: Sequence[ParkedRequest]) -> bool:
        """Replay the canary; whether all its requests succeeded in time."""
        async with queue.open_event_stream(self.settings.event_exchange) as events:
            for request in first:
                await self._replay(queue, request)
            typer.echo(f"Waiting for the outcomes of {len(first):,} canary requests ...", err=True)
            self.outcomes = await canary_outcomes(first, events, self.canary_timeout)
        for outcome in self.outcomes:
            typer.echo(f"{printable(outcome.id)}  {printable(outcome.text)}", err=True)
        return all(outcome.succeeded for outcome in self.outcomes)

    async def _replay(self, queue: ParkedQueue, request: ParkedRequest) -> None:
        await self.pacer.wait()
        await self.forget(request)
        await queue.move(request.parked, request.replay_headers(self.settings.delivery_limit, time.time()))
        self.replayed.add(request)

    def _print_result(self, *, is_read: bool, is_done: bool) -> None:
        """`is_read`: all parked messages were read, so that it is known how many are left."""
        if self.as_json:
            counts = {
                "replayed": len(self.replayed),
                "left": len(self.left) if is_read else None,
                "no_requests": len(self.invalid),
                "unconfirmed": int(self.is_unfinished),
            }
            print_json({**counts, "canary": [asdict(outcome) for outcome in self.outcomes], "done": is_done})
            return
        if is_read and not self.replayed and not self.left:
            typer.echo(NO_MATCH)
            return
        if not all(outcome.succeeded for outcome in self.outcomes):
            typer.echo("The canary did not succeed; the other requests stay parked.")
        left = f"{self.left} still parked" if is_read else "the others are still parked"
        invalid = f", of which {self.invalid} are invalid" if self.invalid else ""
        typer.echo(f"{self.replayed} replayed, {left}{invalid}.")
        if self.is_unfinished:
            typer.echo("1 more may be both replayed and parked, since the broker did not confirm its copy. " + HARMLESS)


async def canary_outcomes(
    requests: Sequence[ParkedRequest], events: EventStream, timeout: float
) -> list[CanaryOutcome]:
    """The outcomes of replayed requests, at the latest after `timeout` seconds. Raises BrokerError."""
    by_key = {request.parsed.key: request for request in requests if request.parsed is not None}
    outcomes: dict[Key, CanaryOutcome] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            while len(outcomes) < len(by_key):
                outcomes.update(_outcome_from(await anext(events), by_key))
    for key in by_key:
        outcomes.setdefault(key, CanaryOutcome(key[1], False, f"no outcome after {timeout:g} s"))
    return list(outcomes.values())


def _outcome_from(event: Event, requests: Mapping[Key, ParkedRequest]) -> dict[Key, CanaryOutcome]:
    """The outcome that an event reports, by its request; empty if it is about another request or replay."""
    try:
        content = read_event(event.body)
    except ValueError:
        return {}  # not an event of the worker
    key = (content.project_id or "", content.request_id or "")
    if (request := requests.get(key)) is None:
        return {}
    if isinstance(content, MigrationSucceeded):
        return {key: CanaryOutcome(key[1], True, f"{content.resolution}: {content.instance_id}")}
    failure_id = identity.failure_id(content, request.envelope.replays + 1, request.parked.body)
    if event.headers.get(_CLOUDEVENTS_ID_HEADER) != failure_id:
        return {}  # a failure of before this replay
    return {key: CanaryOutcome(key[1], False, describe_failure(content))}

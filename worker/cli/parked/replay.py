"""`parked replay`: sends parked requests to the requests queue, a canary first, whose outcomes are awaited.

Without --yes, a dry run: looks for the tasks in DCS as the worker does, and predicts the results.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass, field
from typing import Final, Literal, assert_never

import typer

from schemas import identity
from schemas.client import read_event
from schemas.envelope import Envelope
from schemas.event import MigrationSucceeded
from worker.bootstrap.components import lookup_client, retry_policy
from worker.cli.common import EXIT_FAILED, print_json, printable, short_duration
from worker.cli.parked.request import NO_MATCH, ParkedRequest, open_parked_records, parked_queue, selected_requests
from worker.cli.parked.selection import Selection
from worker.cli.parked.timeline import describe_failure
from worker.cli.progress import Pacer, ProgressDisplay
from worker.config import Configuration, Settings
from worker.dcs.client import DcsClient
from worker.policy.call_result import CallError, ConflictingTask, SeveralTasks, TaskFound, TaskNotFound
from worker.policy.migration_request import Key, MigrationRequest
from worker.rabbit.tools.event_stream import Event, EventStream
from worker.rabbit.tools.parked_queue import ParkedQueue

MAX_HOLD_SECONDS: Final = 1200.0
"""A replay stops after this: brokers requeue what is unacknowledged for 1,800 s (their default)."""
_CLOUDEVENTS_ID_HEADER: Final = "cloudEvents:id"
MAX_CONCURRENT_LOOKUPS: Final = 8

VerdictKind = Literal["create", "exists", "unclear", "expire", "invalid"]

_VERDICT_COUNTS: Final[dict[VerdictKind, str]] = {
    "create": "{:,} would create a task.",
    "exists": "{:,} have a task.",
    "unclear": "{:,} unknown.",
    "expire": "{:,} would expire.",
    "invalid": "{:,} are invalid.",
}


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
    replayed: int = 0
    outcomes: list[CanaryOutcome] = field(default_factory=list)
    """Of the canary."""
    started_at: float = field(default_factory=time.monotonic)

    async def run(self, selection: Selection) -> int:
        """Replay the selected requests; the exit status. Raises BrokerError."""
        async with open_parked_records(self.settings) as self.forget, parked_queue(self.settings) as queue:
            selected = await selected_requests(queue, self.settings, selection)
            valid = [request for request in selected if request.parsed is not None]
            is_done = False
            try:
                is_done = await self._replay_all(queue, valid)
                await queue.release()
            finally:
                self._print_result(len(selected), len(selected) - len(valid), is_done=is_done)
            return selection.exit_status(len(selected)) if is_done else EXIT_FAILED

    async def _replay_all(self, queue: ParkedQueue, valid: Sequence[ParkedRequest]) -> bool:
        first, rest = valid[: self.canary_size], valid[self.canary_size :]
        if first and not await self._run_canary(queue, first):
            return False
        if not rest:
            return True
        with ProgressDisplay("replayed", len(valid)) as display:
            display.start_at(len(first))
            for request in rest:
                if time.monotonic() - self.started_at > MAX_HOLD_SECONDS:
                    stopped = f"Stopped after {MAX_HOLD_SECONDS:g} s; the other requests stay parked."
                    typer.echo(f"{stopped} Repeat the command to go on.", err=True)
                    return False
                await self._replay(queue, request)
                display.update(self.replayed)
        return True

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
        self.replayed += 1

    def _print_result(self, selected: int, invalid: int, *, is_done: bool) -> None:
        left = selected - self.replayed
        if self.as_json:
            canary = [asdict(outcome) for outcome in self.outcomes]
            counts = {"replayed": self.replayed, "left": left, "no_requests": invalid}
            print_json({**counts, "canary": canary, "done": is_done})
            return
        if not selected:
            typer.echo(NO_MATCH)
            return
        if not all(outcome.succeeded for outcome in self.outcomes):
            typer.echo("The canary did not succeed; the other requests stay parked.")
        text = f"{self.replayed:,} replayed, {left:,} still parked"
        typer.echo(f"{text}, of which {invalid:,} are invalid." if invalid else f"{text}.")


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


# Dry run


@dataclass(frozen=True, slots=True)
class ReplayVerdict:
    """Expected result of the replay of one request."""

    kind: VerdictKind
    text: str
    tasks: tuple[str, ...] = ()
    """Ids of tasks that belong, or may belong, to the request."""


async def preview(loaded: Configuration, selection: Selection, pacer: Pacer, *, as_json: bool) -> int:
    """Print the expected result of each request; the exit status. Raises BrokerError and ConfigurationError."""
    async with parked_queue(loaded.settings) as queue:
        selected = await selected_requests(queue, loaded.settings, selection)
    # The queue is closed here: lookups can take longer than a broker lets messages be unacknowledged.
    verdicts: list[tuple[ParkedRequest, ReplayVerdict]] = []
    width = max((len(printable(request.id)) for request in selected), default=0)
    async with AsyncExitStack() as stack:
        lookups = ReplayPreview(loaded.settings, lookup_client(stack, loaded), pacer)
        async for request, verdict in lookups.verdicts(selected):
            verdicts.append((request, verdict))
            if not as_json:
                typer.echo(f"{printable(request.id):<{width}}  {printable(verdict.text)}")
    if as_json:
        requests = [
            {**request.summary(), "verdict": verdict.kind, "text": verdict.text, "tasks": verdict.tasks}
            for request, verdict in verdicts
        ]
        print_json({"replayed": False, "requests": requests})
    elif not selected:
        typer.echo(NO_MATCH)
    else:
        counts = {kind: sum(verdict.kind == kind for _, verdict in verdicts) for kind in _VERDICT_COUNTS}
        summary = " ".join(_VERDICT_COUNTS[kind].format(count) for kind, count in counts.items() if count)
        typer.echo(f"\n{summary} Dry run: nothing was sent. --yes replays them.")
    return selection.exit_status(len(selected))


@dataclass(frozen=True, slots=True)
class ReplayPreview:
    """Looks for the tasks of parked requests, MAX_CONCURRENT_LOOKUPS at a time."""

    settings: Settings
    client: DcsClient
    pacer: Pacer

    async def verdicts(self, requests: Sequence[ParkedRequest]) -> AsyncIterator[tuple[ParkedRequest, ReplayVerdict]]:
        """The verdict on every request, in their order."""
        for start in range(0, len(requests), MAX_CONCURRENT_LOOKUPS):
            checks: list[tuple[ParkedRequest, asyncio.Task[ReplayVerdict]]] = []
            async with asyncio.TaskGroup() as tasks:
                for request in requests[start : start + MAX_CONCURRENT_LOOKUPS]:
                    await self.pacer.wait()
                    checks.append((request, tasks.create_task(self._check(request))))
            for request, check in checks:
                yield request, check.result()

    async def _check(self, request: ParkedRequest) -> ReplayVerdict:
        parsed, envelope = request.parsed, request.envelope
        if parsed is None:
            return ReplayVerdict("invalid", "not a valid request, stays parked")
        if (reason := self._reason_not_to_look_up(parsed, envelope)) is not None:
            return ReplayVerdict("unclear", f"unknown: {reason}")
        may_exist = envelope.last_sent_at is not None
        lookup_result = await self.client.find(parsed, envelope.first_received_at, may_exist=may_exist)
        match lookup_result:
            case TaskFound(instance_id=task):
                return ReplayVerdict("exists", f"task {task} exists: only the event is sent", (task,))
            case SeveralTasks(candidates=tasks) | ConflictingTask(candidates=tasks):
                is_conflict = isinstance(lookup_result, ConflictingTask)
                why = "its request id belongs to another task" if is_conflict else "these tasks may belong to it"
                return ReplayVerdict("unclear", f"unknown: {why}: {', '.join(tasks)}", tasks)
            case CallError(error_code=code):
                text = lookup_result.error_msg or lookup_result.message
                return ReplayVerdict("unclear", f"unknown: lookup failed: {text}" + (f" ({code})" if code else ""))
            case TaskNotFound():
                return self._verdict_without_task(parsed, envelope)
            case _:
                assert_never(lookup_result)

    def _reason_not_to_look_up(self, parsed: MigrationRequest, envelope: Envelope) -> str | None:
        """Why the worker would not look for its task; None if it would."""
        if parsed.region not in self.settings.dcs_endpoints:
            return f"region {parsed.region!r} is not in WORKER_DCS_ENDPOINTS"
        if self.settings.reconcile == "off" and envelope.last_sent_at is not None:
            return "with WORKER_RECONCILE=off the worker does no lookup"
        return None

    def _verdict_without_task(self, parsed: MigrationRequest, envelope: Envelope) -> ReplayVerdict:
        now = time.time()
        listing_delay_left = retry_policy(self.settings).listing_delay_left(envelope.last_sent_at, now)
        if parsed.not_after is not None and now + listing_delay_left >= parsed.not_after:
            return ReplayVerdict("expire", "would expire: its not_after has passed")
        delay = f", in {short_duration(listing_delay_left + 1)} at the earliest" if listing_delay_left else ""
        return ReplayVerdict("create", f"would create{delay}")

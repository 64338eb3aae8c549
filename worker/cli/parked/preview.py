"""`parked replay` without --yes: looks for the tasks in DCS as the worker does, and predicts the results."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal, assert_never

import typer

from schemas.envelope import Envelope
from worker.bootstrap.components import lookup_client, retry_policy
from worker.cli.common import print_json, printable, short_duration
from worker.cli.parked.listing import DRY_RUN_LINES, ParkedGroups
from worker.cli.parked.request import NO_MATCH, ParkedRequest, parked_queue, selected_requests
from worker.cli.parked.selection import Selection
from worker.cli.parked.timeline import describe_lookup_error
from worker.cli.progress import Pacer
from worker.config import Configuration, Settings
from worker.dcs.client import DcsClient
from worker.policy.call_result import CallError, ConflictingTask, SeveralTasks, TaskFound, TaskNotFound
from worker.policy.migration_request import Key, MigrationRequest
from worker.rabbit.tools.parked_queue import ParkedMessage

MAX_CONCURRENT_LOOKUPS: Final = 8

VerdictKind = Literal["create", "exists", "unclear", "reject", "expire", "invalid"]

_VERDICT_COUNTS: Final[dict[VerdictKind, str]] = {
    "create": "{:,} would create a task.",
    "exists": "{:,} have a task.",
    "unclear": "{:,} unknown.",
    "reject": "{:,} would be rejected.",
    "expire": "{:,} would expire.",
    "invalid": "{:,} are invalid.",
}


@dataclass(frozen=True, slots=True)
class ReplayVerdict:
    """Expected result of the replay of one request."""

    kind: VerdictKind
    text: str
    tasks: tuple[str, ...] = ()
    """Ids of tasks that belong, or may belong, to the request."""


async def preview(loaded: Configuration, selection: Selection, pacer: Pacer, *, as_json: bool) -> int:
    """Print the expected result of each request; the exit status. Raises BrokerError and ConfigurationError."""
    settings, groups = loaded.settings, ParkedGroups()
    messages: dict[Key, ParkedMessage] = {}
    async with parked_queue(settings) as queue:
        async for batch in selected_requests(queue, settings, selection):
            for request in batch:
                groups.add(request)
                messages.setdefault(request.key, request.parked.without_journal())
    # The queue is closed here: lookups can take longer than a broker lets messages be unacknowledged.
    async with AsyncExitStack() as stack:
        lookups = ReplayPreview(settings, lookup_client(stack, loaded), pacer)
        # Each message is forgotten when it is looked up.
        verdicts = lookups.verdicts(ParkedRequest.read(messages.pop(key), settings) for key in list(messages))
        if as_json:
            rows = [
                {**request.summary(), "verdict": verdict.kind, "text": verdict.text, "tasks": verdict.tasks}
                async for request, verdict in verdicts
            ]
            print_json({"replayed": False, "messages": groups.total.messages, "requests": rows})
        elif groups.total:
            typer.echo(f"{groups.table()}\n")
            await _print_verdicts(verdicts)
        else:
            typer.echo(NO_MATCH)
    return selection.exit_status(len(groups.total))


async def _print_verdicts(verdicts: AsyncIterator[tuple[ParkedRequest, ReplayVerdict]]) -> None:
    """Print the first verdicts, and the number of each kind."""
    counts: Counter[VerdictKind] = Counter()
    async for request, verdict in verdicts:
        counts[verdict.kind] += 1
        if counts.total() <= DRY_RUN_LINES:
            typer.echo(f"{printable(request.id)}  {printable(verdict.text)}")
    if (more := counts.total() - DRY_RUN_LINES) > 0:
        typer.echo(f"... and {more:,} more: --json prints all.")
    summary = " ".join(text.format(counts[kind]) for kind, text in _VERDICT_COUNTS.items() if counts[kind])
    replayed = "--yes replays these requests" if counts.total() > counts["invalid"] else "There is nothing to replay"
    typer.echo(f"\n{summary} Dry run: nothing was sent. {replayed}.")


@dataclass(frozen=True, slots=True)
class ReplayPreview:
    """Looks for the tasks of parked requests, MAX_CONCURRENT_LOOKUPS at a time."""

    settings: Settings
    client: DcsClient
    pacer: Pacer

    async def verdicts(self, requests: Iterable[ParkedRequest]) -> AsyncIterator[tuple[ParkedRequest, ReplayVerdict]]:
        """The verdict on every request, in their order."""
        remaining = iter(requests)
        while batch := list(islice(remaining, MAX_CONCURRENT_LOOKUPS)):
            checks: list[tuple[ParkedRequest, asyncio.Task[ReplayVerdict]]] = []
            async with asyncio.TaskGroup() as tasks:
                for request in batch:
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
        lookup_result = await self.client.find(
            parsed, envelope.created_since, may_exist=may_exist, was_sent=envelope.was_sent
        )
        match lookup_result:
            case TaskFound(instance_id=task):
                return ReplayVerdict("exists", f"task {task} exists: only the event is sent", (task,))
            case SeveralTasks(candidates=tasks) | ConflictingTask(candidates=tasks):
                is_conflict = isinstance(lookup_result, ConflictingTask)
                why = "its request id belongs to another task" if is_conflict else "these tasks may belong to it"
                return ReplayVerdict("unclear", f"unknown: {why}: {', '.join(tasks)}", tasks)
            case CallError():
                return ReplayVerdict("unclear", f"unknown: {describe_lookup_error(lookup_result)}")
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
        if envelope.conflict is not None:
            return ReplayVerdict("reject", "would be rejected: DCS answered its create with 409, and has no task")
        now = time.time()
        listing_delay_left = retry_policy(self.settings).listing_delay_left(envelope.last_sent_at, now)
        if parsed.not_after is not None and now + listing_delay_left >= parsed.not_after:
            return ReplayVerdict("expire", "would expire: its not_after has passed")
        delay = f", in {short_duration(listing_delay_left + 1)} at the earliest" if listing_delay_left else ""
        return ReplayVerdict("create", f"would create{delay}")

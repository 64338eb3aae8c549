"""`parked replay` without --yes, a dry run: looks for the tasks in DCS as the worker does, and predicts the results."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Literal, assert_never

import typer

from schemas.envelope import Envelope
from worker.bootstrap.components import credentials, retry_policy, service_transport
from worker.cli.common import print_json, printable, short_duration
from worker.cli.parked.request import NO_MATCH, ParkedRequest, parked_queue, selected_requests
from worker.cli.parked.selection import Selection
from worker.cli.progress import Pacer
from worker.config import Configuration, Settings
from worker.dcs.client import DcsClient
from worker.dcs.http_client import HttpClient
from worker.policy.call_result import CallError, ConflictingTask, SeveralTasks, TaskFound, TaskNotFound
from worker.policy.freeze_detector import FreezeDetector
from worker.policy.migration_request import MigrationRequest

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

    def on_verdict(request: ParkedRequest, verdict: ReplayVerdict) -> None:
        verdicts.append((request, verdict))
        if not as_json:
            typer.echo(f"{printable(request.id):<{width}}  {printable(verdict.text)}")

    async with AsyncExitStack() as stack:
        client = _dcs_client(stack, loaded)
        await ReplayPreview(loaded.settings, client, pacer).check_all(selected, on_verdict)
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


def _dcs_client(stack: AsyncExitStack, loaded: Configuration) -> DcsClient:
    """A client with the worker's credentials, closed with `stack`."""
    transport = service_transport(loaded)
    stack.push_async_callback(transport.aclose)
    # Lookups are harmless, so it does not matter whether this process was frozen.
    freeze_detector = FreezeDetector(lambda: 0.0)

    def http_client(deadline: float) -> HttpClient:
        return HttpClient(transport, deadline=deadline, freeze_detector=freeze_detector)

    credential = credentials(loaded, http_client, lambda _: None)
    stack.push_async_callback(credential.aclose)
    settings = loaded.settings
    return DcsClient(http_client(settings.dcs_timeout), credential, settings.dcs_endpoints)


@dataclass(frozen=True, slots=True)
class ReplayPreview:
    """Looks for the tasks of parked requests, MAX_CONCURRENT_LOOKUPS at a time."""

    settings: Settings
    client: DcsClient
    pacer: Pacer

    async def check_all(
        self, requests: Iterable[ParkedRequest], on_verdict: Callable[[ParkedRequest, ReplayVerdict], None]
    ) -> None:
        """Call `on_verdict` for every request, in their order."""
        waiting: deque[tuple[ParkedRequest, asyncio.Task[ReplayVerdict]]] = deque()

        async def report_next() -> None:
            request, task = waiting.popleft()
            on_verdict(request, await task)

        async with asyncio.TaskGroup() as tasks:
            for request in requests:
                await self.pacer.wait()
                waiting.append((request, tasks.create_task(self._check(request))))
                if len(waiting) == MAX_CONCURRENT_LOOKUPS:
                    await report_next()
            while waiting:
                await report_next()

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
            case CallError():
                return ReplayVerdict("unclear", f"unknown: lookup failed: {_error_text(lookup_result)}")
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


def _error_text(error: CallError) -> str:
    text = error.error_msg or error.message
    return f"{text} ({error.error_code})" if error.error_code else text

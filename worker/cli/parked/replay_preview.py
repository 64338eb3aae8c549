"""Dry run of a replay: looks for the tasks in DCS as the worker does, and predicts the result of each request."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, assert_never

from schemas.envelope import Envelope
from worker.bootstrap.components import credentials, retry_policy, service_transport
from worker.cli.common import short_duration
from worker.cli.parked.request import ParkedRequest
from worker.cli.progress import Pacer
from worker.config import Configuration
from worker.dcs.client import DcsClient
from worker.dcs.http_client import HttpClient
from worker.policy.call_result import CallError, SeveralTasks, TaskFound, TaskNotFound
from worker.policy.freeze_detector import FreezeDetector
from worker.policy.migration_request import MigrationRequest

MAX_CONCURRENT_LOOKUPS: Final = 8

VerdictKind = Literal["create", "exists", "unclear", "expire", "invalid"]


@dataclass(frozen=True, slots=True)
class ReplayVerdict:
    """Expected result of the replay of one request."""

    kind: VerdictKind
    text: str
    tasks: tuple[str, ...] = field(default=())
    """Ids of tasks that belong, or may belong, to the request."""


class ReplayPreview:
    """Looks for the tasks of parked requests, MAX_CONCURRENT_LOOKUPS at a time."""

    def __init__(self, loaded: Configuration, client: DcsClient, pacer: Pacer) -> None:
        self._settings = loaded.settings
        self._rules = retry_policy(loaded.settings)
        self._client = client
        self._pacer = pacer

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
                await self._pacer.wait()
                waiting.append((request, tasks.create_task(self._check(request))))
                if len(waiting) == MAX_CONCURRENT_LOOKUPS:
                    await report_next()
            while waiting:
                await report_next()

    async def _check(self, request: ParkedRequest) -> ReplayVerdict:
        if request.parsed is None:
            return ReplayVerdict("invalid", "not a valid request, stays parked")
        if (reason := self._reason_not_to_look_up(request.parsed, request.envelope)) is not None:
            return ReplayVerdict("unclear", f"unknown: {reason}")
        lookup_result = await self._client.find(request.parsed, request.envelope.first_received_at)
        match lookup_result:
            case TaskFound():
                text = f"task {lookup_result.instance_id} exists: only the event is sent"
                return ReplayVerdict("exists", text, (lookup_result.instance_id,))
            case SeveralTasks():
                found = ", ".join(lookup_result.candidates)
                return ReplayVerdict(
                    "unclear", f"unknown: several tasks may belong to it: {found}", lookup_result.candidates
                )
            case CallError():
                return ReplayVerdict("unclear", f"unknown: lookup failed: {_error_text(lookup_result)}")
            case TaskNotFound():
                return self._verdict_without_task(request.parsed, request.envelope)
            case _:
                assert_never(lookup_result)

    def _reason_not_to_look_up(self, parsed: MigrationRequest, envelope: Envelope) -> str | None:
        """Why the worker would not look for its task; None if it would."""
        if parsed.region not in self._settings.dcs_endpoints:
            return f"region {parsed.region!r} is not in WORKER_DCS_ENDPOINTS"
        if self._settings.reconcile == "off" and envelope.last_sent_at is not None:
            return "with WORKER_RECONCILE=off the worker does no lookup"
        return None

    def _verdict_without_task(self, parsed: MigrationRequest, envelope: Envelope) -> ReplayVerdict:
        now = time.time()
        listing_delay_left = self._rules.listing_delay_left(envelope.last_sent_at, now)
        if parsed.not_after is not None and now + listing_delay_left >= parsed.not_after:
            return ReplayVerdict("expire", "would expire: its not_after has passed")
        return ReplayVerdict(
            "create",
            f"would create, in {short_duration(listing_delay_left + 1)} at the earliest"
            if listing_delay_left
            else "would create",
        )


def _error_text(fault: CallError) -> str:
    text = fault.error_msg or fault.message
    return f"{text} ({fault.error_code})" if fault.error_code else text


@asynccontextmanager
async def open_preview(loaded: Configuration, pacer: Pacer) -> AsyncIterator[ReplayPreview]:
    """A preview that uses the worker's credentials. Raises ConfigurationError."""
    settings = loaded.settings
    freeze_detector = FreezeDetector(
        lambda: 0.0
    )  # lookups are harmless, so it does not matter whether this process was frozen
    async with AsyncExitStack() as stack:
        transport = service_transport(loaded)
        stack.push_async_callback(transport.aclose)

        def http_client(deadline: float) -> HttpClient:
            return HttpClient(transport, deadline=deadline, freeze_detector=freeze_detector)

        proof = credentials(loaded, http_client, lambda _: None)
        stack.push_async_callback(proof.aclose)
        yield ReplayPreview(loaded, DcsClient(http_client(settings.dcs_timeout), proof, settings.dcs_endpoints), pacer)

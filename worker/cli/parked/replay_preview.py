"""What a replay would do, found out by looking in the cloud as the worker does."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, assert_never

from schemas.envelope import Envelope
from worker.bootstrap.from_settings import credentials, rules, service_transport
from worker.cli.common import short_duration
from worker.cli.parked.request import ParkedRequest
from worker.cli.progress import Pacer
from worker.config import Loaded
from worker.dcs.client import DcsClient
from worker.dcs.http_client import HttpClient
from worker.policy.fault import Absent, Fault, Found, Several
from worker.policy.order import Order
from worker.policy.pulse import Pulse

MAX_CONCURRENT_LOOKUPS: Final = 8

VerdictKind = Literal["create", "exists", "unclear", "expire", "invalid"]


@dataclass(frozen=True, slots=True)
class ReplayVerdict:
    """What would become of one request."""

    kind: VerdictKind
    text: str
    tasks: tuple[str, ...] = field(default=())
    """Ids of tasks that are, or may be, the request's."""


class ReplayPreview:
    """Looks for the tasks of parked requests, at most AT_ONCE at a time."""

    def __init__(self, loaded: Loaded, client: DcsClient, pacer: Pacer) -> None:
        self._settings = loaded.settings
        self._rules = rules(loaded.settings)
        self._client = client
        self._pacer = pacer

    async def check_all(
        self, requests: Iterable[ParkedRequest], on_verdict: Callable[[ParkedRequest, ReplayVerdict], None]
    ) -> None:
        """Tell `each` every story with its verdict, in their order."""
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
            return ReplayVerdict("invalid", "is no request, and stays parked")
        if (reason := self._reason_not_to_look_up(request.parsed, request.envelope)) is not None:
            return ReplayVerdict("unclear", f"cannot be told: {reason}")
        lookup_result = await self._client.find(request.parsed, request.envelope.first_received_at)
        match lookup_result:
            case Found():
                text = f"already exists as {lookup_result.instance_id}: only the event is sent"
                return ReplayVerdict("exists", text, (lookup_result.instance_id,))
            case Several():
                found = ", ".join(lookup_result.candidates)
                return ReplayVerdict(
                    "unclear", f"cannot be told: several tasks may be it: {found}", lookup_result.candidates
                )
            case Fault():
                return ReplayVerdict("unclear", f"cannot be told: {_error_text(lookup_result)}")
            case Absent():
                return self._verdict_without_task(request.parsed, request.envelope)
            case _:
                assert_never(lookup_result)

    def _reason_not_to_look_up(self, parsed: Order, envelope: Envelope) -> str | None:
        """Why the worker would not look."""
        if parsed.region not in self._settings.dcs_endpoints:
            return f"region {parsed.region!r} is not in WORKER_DCS_ENDPOINTS"
        if self._settings.reconcile == "off" and envelope.last_sent_at is not None:
            return "with WORKER_RECONCILE=off the worker does not look"
        return None

    def _verdict_without_task(self, parsed: Order, envelope: Envelope) -> ReplayVerdict:
        now = time.time()
        owed = self._rules.owed(envelope.last_sent_at, now)
        if parsed.not_after is not None and now + owed >= parsed.not_after:
            return ReplayVerdict("expire", "would not create: its not_after has passed")
        return ReplayVerdict(
            "create", f"would create, in {short_duration(owed + 1)} at the earliest" if owed else "would create"
        )


def _error_text(fault: Fault) -> str:
    text = fault.error_msg or fault.message
    return f"{text} ({fault.error_code})" if fault.error_code else text


@asynccontextmanager
async def open_preview(loaded: Loaded, pacer: Pacer) -> AsyncIterator[ReplayPreview]:
    """A look into the cloud with the worker's credentials. Raises ConfigurationError."""
    settings = loaded.settings
    pulse = Pulse(lambda: 0.0)  # a look does no harm, however late: whether this process was frozen is all one
    async with AsyncExitStack() as stack:
        transport = service_transport(loaded)
        stack.push_async_callback(transport.aclose)

        def http_client(deadline: float) -> HttpClient:
            return HttpClient(transport, deadline=deadline, pulse=pulse)

        proof = credentials(loaded, http_client, lambda _: None)
        stack.push_async_callback(proof.aclose)
        yield ReplayPreview(loaded, DcsClient(http_client(settings.dcs_timeout), proof, settings.dcs_endpoints), pacer)

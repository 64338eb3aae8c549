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
from worker.cli.common import span
from worker.cli.parked.story import Story
from worker.cli.progress import Pace
from worker.config import Loaded
from worker.dcs.client import DcsClient
from worker.dcs.http_client import HttpClient
from worker.policy.fault import Absent, Fault, Found, Several
from worker.policy.order import Order
from worker.policy.pulse import Pulse

AT_ONCE: Final = 8

Kind = Literal["create", "exists", "unclear", "expire", "invalid"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What would become of one request."""

    kind: Kind
    text: str
    tasks: tuple[str, ...] = field(default=())
    """Ids of tasks that are, or may be, the request's."""


class Lookout:
    """Looks for the tasks of parked requests, at most AT_ONCE at a time."""

    def __init__(self, loaded: Loaded, client: DcsClient, pace: Pace) -> None:
        self._settings = loaded.settings
        self._rules = rules(loaded.settings)
        self._client = client
        self._pace = pace

    async def look(self, stories: Iterable[Story], each: Callable[[Story, Verdict], None]) -> None:
        """Tell `each` every story with its verdict, in their order."""
        waiting: deque[tuple[Story, asyncio.Task[Verdict]]] = deque()

        async def tell() -> None:
            story, task = waiting.popleft()
            each(story, await task)

        async with asyncio.TaskGroup() as tasks:
            for story in stories:
                await self._pace.turn()
                waiting.append((story, tasks.create_task(self._judge(story))))
                if len(waiting) == AT_ONCE:
                    await tell()
            while waiting:
                await tell()

    async def _judge(self, story: Story) -> Verdict:
        if story.order is None:
            return Verdict("invalid", "is no request, and stays parked")
        if (why := self._hindrance(story.order, story.envelope)) is not None:
            return Verdict("unclear", f"cannot be told: {why}")
        sighting = await self._client.find(story.order, story.envelope.first_received_at)
        match sighting:
            case Found():
                text = f"already exists as {sighting.instance_id}: only the event is sent"
                return Verdict("exists", text, (sighting.instance_id,))
            case Several():
                found = ", ".join(sighting.candidates)
                return Verdict("unclear", f"cannot be told: several tasks may be it: {found}", sighting.candidates)
            case Fault():
                return Verdict("unclear", f"cannot be told: {_said(sighting)}")
            case Absent():
                return self._absent(story.order, story.envelope)
            case _:
                assert_never(sighting)

    def _hindrance(self, order: Order, envelope: Envelope) -> str | None:
        """Why the worker would not look."""
        if order.region not in self._settings.dcs_endpoints:
            return f"region {order.region!r} is not in WORKER_DCS_ENDPOINTS"
        if self._settings.reconcile == "off" and envelope.last_sent_at is not None:
            return "with WORKER_RECONCILE=off the worker does not look"
        return None

    def _absent(self, order: Order, envelope: Envelope) -> Verdict:
        now = time.time()
        owed = self._rules.owed(envelope.last_sent_at, now)
        if order.not_after is not None and now + owed >= order.not_after:
            return Verdict("expire", "would not create: its not_after has passed")
        return Verdict("create", f"would create, in {span(owed + 1)} at the earliest" if owed else "would create")


def _said(fault: Fault) -> str:
    said = fault.error_msg or fault.message
    return f"{said} ({fault.error_code})" if fault.error_code else said


@asynccontextmanager
async def lookout(loaded: Loaded, pace: Pace) -> AsyncIterator[Lookout]:
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
        yield Lookout(loaded, DcsClient(http_client(settings.dcs_timeout), proof, settings.dcs_endpoints), pace)

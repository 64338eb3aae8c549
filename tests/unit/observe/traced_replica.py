"""One replica's pipeline between fakes, traced to a real OTLP collector."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

from schemas import names
from tests.fakes.otlp_collector import Collector, Span
from tests.pipeline.fakes import FakeConsumer, FakeDelivery, FakePublisher, request
from tests.unit.dcs.fakes import reply
from worker.bootstrap.assembly import Ports, build_dispatcher
from worker.dcs.auth.auth_method import ReadyToken
from worker.dcs.client import DcsClient
from worker.dcs.http_client import HttpClient
from worker.observe.logging import configure_logging
from worker.observe.metrics import Metrics
from worker.observe.observer import WorkerObserver
from worker.observe.tracing import TracedPublisher, Tracing, start_tracing
from worker.pipeline.deduplicator import Deduplicator
from worker.pipeline.dispatcher import Dispatcher
from worker.pipeline.pipeline import DeliveryPipeline
from worker.pipeline.throttle import Throttle
from worker.policy.freeze_detector import FreezeDetector
from worker.policy.migration_request import RequestParser
from worker.policy.retry_policy import RetryPolicy, ThrottleSettings

QUEUE = "dcs.migration.requests"
TOKEN = "very-secret-token"
TRACE = "0af7651916cd43dd8448eb211c80319c"
SENDER = "b7ad6b7169203331"
SENT = {names.TRACEPARENT: f"00-{TRACE}-{SENDER}-01", names.TRACESTATE: "vendor=opaque"}
REFUSED = reply(400, json={"error_code": "DCS.4013", "error_msg": "secret-name is wrong"})
BUSY = reply(400, json={"error_code": "DCS.4026", "error_msg": "busy"})
NOTHING_THERE = reply(200, json={"migration_tasks": []})
CREATE = "POST /v2/{project_id}/migration/instance"
LIST = "GET /v2/{project_id}/migration-tasks"
PROCESS = f"process {QUEUE}"
SUCCEEDED = "publish dcs.migration.events:migration.succeeded"
SECRETS = (TOKEN, "secret-name", "secret text", "secret-vpc", "migration_tasks")


def created(number: int) -> httpx2.Response:
    """The answer to a create: no two name one task."""
    return reply(200, json={"instance_id": f"i-{number}"}, headers={"X-Request-Id": f"dcs-{number}"})


class FakeService:
    """DCS below the worker's HTTP client: answers as scripted, and keeps what it got."""

    def __init__(self) -> None:
        self.answers: list[httpx2.Response | BaseException | asyncio.Event] = []
        self.got: list[httpx2.Request] = []

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """The next answer to a request that has come whole; without one, another task is created."""
        self.got.append(request)
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        assert b"".join([part async for part in request.stream]) == request.content
        match self.answers.pop(0) if self.answers else created(len(self.got)):
            case httpx2.Response() as answer:
                return answer
            case asyncio.Event() as event:
                await event.wait()
                raise AssertionError("it was not cancelled")
            case BaseException() as error:
                raise error


@dataclass
class Replica:
    """One replica's flow between fakes, traced to a collector."""

    collector: Collector
    service: FakeService = field(default_factory=FakeService)
    publisher: FakePublisher = field(default_factory=FakePublisher)
    rules: RetryPolicy = field(default_factory=lambda: RetryPolicy(tries=1, reconcile="ambiguous"))

    def __post_init__(self) -> None:
        self.tracing: Tracing = start_tracing(f"{self.collector.url}/v1/traces", QUEUE, "1.2.3")
        metrics = Metrics("1", ["cn-north-4"], with_claims=False)
        observer = WorkerObserver(metrics, configure_logging("critical", "json", None), self.tracing)
        freeze_detector = FreezeDetector(time.monotonic)
        http = HttpClient(
            httpx2.MockTransport(self.service),
            deadline=5.0,
            freeze_detector=freeze_detector,
            on_call_end=observer.call_ended,
            on_call_start=self.tracing.call_started,
        )
        client = DcsClient(http, ReadyToken(lambda: TOKEN), {"cn-north-4": "https://dcs.example"})
        publisher = TracedPublisher(self.publisher, self.tracing, QUEUE, "dcs.migration.events", [f"{QUEUE}.retry.10s"])
        reading = RequestParser(65536, ("cn-north-4",), "cn-north-4")
        settings = ThrottleSettings(("cn-north-4",), 64, 5.0, self.rules.delays)
        throttle = Throttle(settings, client.probe, observer, lambda *_: None)
        ports = Ports(client, publisher, observer, throttle, FakeConsumer())
        self.flow: Dispatcher[DeliveryPipeline] = build_dispatcher(ports, self.rules, reading, Deduplicator())
        self.deliver: Callable[[FakeDelivery], None] = self.tracing.with_delivery_span(self.flow.deliver)

    async def work(self, *deliveries: FakeDelivery) -> list[Span]:
        """Deliver at once, wait until all is settled, and end: every span."""
        for delivery in deliveries:
            self.deliver(delivery)
        async with asyncio.timeout(10):
            while self.flow.in_flight:
                await asyncio.sleep(0)
        await self.tracing.aclose()
        return self.collector.spans


def delivery(headers: Mapping[str, object] | None = None, request_id: str = "r-1", **more: Any) -> FakeDelivery:
    """A good request full of secrets."""
    ids = {"vpc_id": "secret-vpc", "subnet_id": "s", "security_group_id": "g"}
    body = request(request_id=request_id, task={"name": "secret-name", "description": "secret text", **ids})
    return FakeDelivery(body, headers or {}, **more)


def one(spans: list[Span], name: str) -> Span:
    """The only span of that name."""
    (found,) = (span for span in spans if span.name == name)
    return found

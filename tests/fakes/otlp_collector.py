"""OTLP/HTTP receiver of traces in this process (https://opentelemetry.io/docs/specs/otlp/)."""

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """A span as it was exported; ids in hexadecimal."""

    name: str
    kind: int
    """1 internal, 2 server, 3 client, 4 producer, 5 consumer."""
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    links: list[tuple[str, str]]
    is_error: bool
    resource: dict[str, Any]

    @property
    def context(self) -> str:
        """The `traceparent` of messages and calls within this span, without the flags."""
        return f"00-{self.trace_id}-{self.span_id}-"


@dataclass
class Collector:
    """Takes spans at `url`; answers with `status`, once `gate` is open."""

    spans: list[Span] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    status: int = 200
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def __aenter__(self) -> Self:
        self.gate.set()
        application = web.Application(client_max_size=1 << 26)
        application.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def named(self, name: str) -> list[Span]:
        """The spans of that name."""
        return [span for span in self.spans if span.name == name]

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        await self.gate.wait()
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self.spans.extend(_spans(body))
        return web.Response(status=self.status)


def _spans(body: bytes) -> list[Span]:
    message = ExportTraceServiceRequest.FromString(body)
    return [
        Span(
            name=span.name,
            kind=span.kind,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            attributes=_plain(span.attributes),
            links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
            is_error=span.status.code == 2,
            resource=_plain(part.resource.attributes),
        )
        for part in message.resource_spans
        for scope in part.scope_spans
        for span in scope.spans
    ]


def _plain(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}

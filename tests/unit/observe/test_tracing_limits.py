"""Tracing at its bounds: what senders write into headers, what never leaves, collectors that do not answer."""

import asyncio
import time

import pytest

from schemas import names
from tests.fakes.otlp_collector import Collector
from tests.pipeline.fakes import FakeDelivery
from tests.unit.observe.traced_replica import (
    NOTHING_THERE,
    PROCESS,
    REFUSED,
    SECRETS,
    SENDER,
    SENT,
    TOKEN,
    TRACE,
    Replica,
    delivery,
    one,
)
from worker.observe import tracing as module
from worker.policy.retry_policy import RetryPolicy


@pytest.mark.parametrize(
    "headers",
    [
        {names.TRACEPARENT: 5},
        {names.TRACEPARENT: [SENT[names.TRACEPARENT]]},
        {names.TRACEPARENT: b"\xff"},
        {names.TRACEPARENT: "00-" + "0" * 32 + "-b7ad6b7169203331-01"},
        {names.TRACEPARENT: "x" * 60_000, names.TRACESTATE: "y" * 60_000},
        {names.TRACESTATE: "vendor=opaque"},
    ],
)
async def test_unreadable_context_starts_new_trace(
    collector: Collector, headers: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a sender writes into the headers, the request is handled, and nothing is logged."""
    replica = Replica(collector)
    process = one(await replica.work(delivery(headers)), PROCESS)

    assert (process.parent_id, process.links, process.is_error) == ("", [], False)
    assert replica.publisher.published[0].headers.keys() == {names.TRACEPARENT}
    assert caplog.records == []


async def test_unreadable_tracestate_is_dropped(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    """The trace continues without it, and nothing is logged."""
    replica = Replica(collector)
    hostile = SENT | {names.TRACESTATE: "=,;;\x00=1,A=\u20ac"}
    process = one(await replica.work(delivery(hostile)), PROCESS)

    assert process.parent_id == SENDER
    assert "tracestate" not in replica.service.got[0].headers
    assert caplog.records == []


async def test_unsampled_request_is_not_exported(collector: Collector) -> None:
    """The sender's decision is passed on to DCS and the event; nothing is exported."""
    replica = Replica(collector)
    spans = await replica.work(delivery({names.TRACEPARENT: f"00-{TRACE}-{SENDER}-00"}))

    assert spans == []
    assert replica.service.got[0].headers["traceparent"].startswith(f"00-{TRACE}-")
    assert str(replica.publisher.published[0].headers["traceparent"]).endswith("-00")


async def test_no_span_carries_a_body_or_a_secret(collector: Collector) -> None:
    """Names, texts and ids of tasks, tokens, queries, answers: none of it in anything that is exported."""
    replica = Replica(collector, rules=RetryPolicy(tries=3, reconcile="always"))
    error = ConnectionError(f"cannot connect with {TOKEN}")
    replica.service.answers = [NOTHING_THERE, REFUSED, error, NOTHING_THERE]
    await replica.work(delivery(SENT), delivery(SENT, request_id="r-2"), FakeDelivery(b'{"task": "secret text"}'))
    exported = b"".join(collector.bodies)

    assert len(collector.spans) > 8
    assert b"r-2" in exported
    for secret in SECRETS:
        assert secret.encode() not in exported
    assert all(TOKEN in sent.headers["x-auth-token"] for sent in replica.service.got)


async def test_standard_variables_name_service(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard variables apply: name, attributes, headers for the collector."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "blue")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=mine")
    spans = await Replica(collector).work(delivery())

    assert spans[0].resource["service.name"] == "blue"
    assert spans[0].resource["deployment.environment.name"] == "test"
    assert collector.headers[0]["x-key"] == "mine"


async def test_hanging_collector_does_not_delay_exit(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker waits for the last spans only for a limited time."""
    monkeypatch.setattr(module, "FLUSH_TIMEOUT_SECONDS", 0.2)
    replica = Replica(collector)
    collector.gate.clear()
    began = time.monotonic()
    await replica.work(delivery())
    assert 0.2 <= time.monotonic() - began < 2
    collector.gate.set()
    async with asyncio.timeout(5):
        while not collector.spans:  # the thread that sends ends before the test does
            await asyncio.sleep(0.01)


async def test_facts_without_delivery_are_ignored(collector: Collector) -> None:
    """A fact outside of any delivery, for example of a token renewal, creates no span."""
    replica = Replica(collector)
    tracing = replica.tracing
    tracing.call_ended("200")
    tracing.failed(ValueError())
    tracing.call_started("unknown", "GET", "http://user:password@host:8080/path?query#fragment")
    tracing.call_ended("204")
    await tracing.aclose()
    (span,) = collector.spans

    assert (span.name, span.attributes["url.full"]) == ("GET", "http://host:8080/path")
    assert (span.attributes["server.port"], span.attributes["http.response.status_code"]) == (8080, 204)

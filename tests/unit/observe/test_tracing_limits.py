"""Tracing at its bounds: what senders write into headers, what never leaves, collectors that do not answer."""

import asyncio
import time

import pytest

from schemas import names
from tests.collector import Collector
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
from tests.walks.fakes import FakeDelivery
from worker.observe import tracing as module
from worker.policy.rules import Rules


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
async def test_a_context_that_cannot_be_read_begins_a_trace(
    collector: Collector, headers: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a sender writes into the headers, the request is worked on, and nobody is told of it in the log."""
    replica = Replica(collector)
    process = one(await replica.work(delivery(headers)), PROCESS)

    assert (process.parent_id, process.links, process.is_error) == ("", [], False)
    assert replica.publisher.published[0].headers.keys() == {names.TRACEPARENT}
    assert caplog.records == []


async def test_an_unreadable_tracestate_is_dropped_in_silence(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """The trace goes on without it."""
    replica = Replica(collector)
    hostile = SENT | {names.TRACESTATE: "=,;;\x00=1,A=\u20ac"}
    process = one(await replica.work(delivery(hostile)), PROCESS)

    assert process.parent_id == SENDER
    assert "tracestate" not in replica.service.got[0].headers
    assert caplog.records == []


async def test_what_the_sender_does_not_sample_is_not_exported(collector: Collector) -> None:
    """His decision goes on to the service and the event; nothing is written down."""
    replica = Replica(collector)
    spans = await replica.work(delivery({names.TRACEPARENT: f"00-{TRACE}-{SENDER}-00"}))

    assert spans == []
    assert replica.service.got[0].headers["traceparent"].startswith(f"00-{TRACE}-")
    assert str(replica.publisher.published[0].headers["traceparent"]).endswith("-00")


async def test_no_span_carries_a_body_or_a_secret(collector: Collector) -> None:
    """Names, texts and ids of tasks, tokens, queries, answers: none of it in anything that is exported."""
    replica = Replica(collector, rules=Rules(tries=3, reconcile="always"))
    error = ConnectionError(f"cannot connect with {TOKEN}")
    replica.service.answers = [NOTHING_THERE, REFUSED, error, NOTHING_THERE]
    await replica.work(delivery(SENT), delivery(SENT, request_id="r-2"), FakeDelivery(b'{"task": "secret text"}'))
    exported = b"".join(collector.bodies)

    assert len(collector.spans) > 8
    assert b"r-2" in exported
    for secret in SECRETS:
        assert secret.encode() not in exported
    assert all(TOKEN in sent.headers["x-auth-token"] for sent in replica.service.got)


async def test_the_environment_says_who_we_are(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard variables hold: name, attributes, headers for the collector."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "blue")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=mine")
    spans = await Replica(collector).work(delivery())

    assert spans[0].resource["service.name"] == "blue"
    assert spans[0].resource["deployment.environment.name"] == "test"
    assert collector.headers[0]["x-key"] == "mine"


async def test_a_collector_that_hangs_does_not_keep_the_worker(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last spans are waited for, but not for ever."""
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


async def test_facts_without_a_delivery_are_no_spans(collector: Collector) -> None:
    """What is told outside of any delivery, by a renewal in the background for example, harms nothing."""
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

"""Tracing, from a delivery to the collector: spans, their parents and attributes, what they never carry."""

import asyncio

import httpx2

from schemas import names
from tests.fakes.otlp_collector import Collector
from tests.pipeline.fakes import FakeDelivery, FakePublisher
from tests.unit.observe.traced_replica import (
    BUSY,
    CREATE,
    LIST,
    NOTHING_THERE,
    PROCESS,
    QUEUE,
    REFUSED,
    SENDER,
    SENT,
    SUCCEEDED,
    TRACE,
    Replica,
    delivery,
    one,
)


async def test_one_request_is_one_trace(collector: Collector) -> None:
    """The sender's trace goes on: through the delivery to the call, and to the event."""
    replica = Replica(collector)
    spans = await replica.work(delivery(SENT, correlation_id="c-1"))
    process, call, publish = (one(spans, name) for name in (PROCESS, CREATE, SUCCEEDED))

    assert len(spans) == 3
    assert {span.trace_id for span in spans} == {TRACE}
    assert (process.parent_id, process.links) == (SENDER, [(TRACE, SENDER)])
    assert call.parent_id == publish.parent_id == process.span_id
    assert [process.kind, call.kind, publish.kind] == [5, 3, 4]
    assert not any(span.is_error for span in spans)
    (sent,) = replica.service.got
    assert sent.headers["traceparent"] == f"{call.context}01"
    (event,) = replica.publisher.published
    assert event.headers["traceparent"] == f"{publish.context}01"
    assert sent.headers["tracestate"] == event.headers["tracestate"] == "vendor=opaque"


async def test_attributes_follow_conventions(collector: Collector) -> None:
    """Messaging and HTTP attributes as OpenTelemetry names them, and `dcs_worker.*`."""
    replica = Replica(collector)
    spans = await replica.work(delivery(SENT, message_id="m-1", correlation_id="c-1"))
    event = replica.publisher.published[0]

    assert one(spans, PROCESS).attributes == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": QUEUE,
        "messaging.message.id": "m-1",
        "messaging.message.conversation_id": "c-1",
        "messaging.message.body.size": len(delivery().body),
        "dcs_worker.outcome": "succeeded",
        "dcs_worker.reason": "created",
        "dcs_worker.request_id": "r-1",
        "dcs_worker.project_id": "p1",
        "dcs_worker.region": "cn-north-4",
        "dcs_worker.attempts": 1,
        "dcs_worker.round": 0,
        "dcs_worker.deliveries": 1,
    }
    assert one(spans, CREATE).attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": "dcs.example",
        "server.port": 443,
        "url.full": "https://dcs.example/v2/p1/migration/instance",
        "url.template": "/v2/{project_id}/migration/instance",
    }
    assert one(spans, SUCCEEDED).attributes == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "dcs.migration.events:migration.succeeded",
        "messaging.rabbitmq.destination.routing_key": "migration.succeeded",
        "messaging.message.id": event.event_id,
        "messaging.message.conversation_id": "c-1",
    }
    resource = one(spans, PROCESS).resource
    assert (resource["service.name"], resource["service.version"]) == ("dcs-migration-worker", "1.2.3")
    assert resource["service.instance.id"]


async def test_refused_call_marks_both_spans_failed(collector: Collector) -> None:
    """Each with its own error type; DCS's text is not exported."""
    replica = Replica(collector)
    replica.service.answers = [REFUSED]
    spans = await replica.work(delivery())
    process, call = one(spans, PROCESS), one(spans, CREATE)

    assert (call.is_error, call.attributes["error.type"], call.attributes["http.response.status_code"]) == (
        True,
        "400",
        400,
    )
    assert (process.is_error, process.attributes["error.type"]) == (True, "rejected")
    assert one(spans, "publish dcs.migration.events:migration.failed").parent_id == process.span_id


async def test_call_without_answer_has_label(collector: Collector) -> None:
    """No status, but how it ended; the lookup after it is a separate call, without the name in its URL."""
    replica = Replica(collector)
    replica.service.answers = [NOTHING_THERE, httpx2.ReadError("lost")]
    spans = await replica.work(delivery({names.ATTEMPTS: 1}))
    look, create = one(spans, LIST), one(spans, CREATE)

    assert "secret" in str(replica.service.got[0].url)
    assert look.attributes["url.full"] == "https://dcs.example/v2/p1/migration-tasks"
    assert (create.attributes["error.type"], create.is_error) == ("reset", True)
    assert "http.response.status_code" not in create.attributes


async def test_copy_keeps_sender_context(collector: Collector) -> None:
    """A postponed request continues the trace of its sender; the publish of its copy is a span."""
    replica = Replica(collector)
    replica.service.answers = [BUSY]
    spans = await replica.work(delivery(SENT))
    publish = one(spans, f"publish {QUEUE}.retry.10s")
    (copy,) = replica.publisher.published

    assert copy.headers[names.TRACEPARENT] == SENT[names.TRACEPARENT]
    assert (publish.kind, publish.attributes["messaging.destination.name"]) == (3, f"{QUEUE}.retry.10s")
    assert one(spans, PROCESS).attributes["dcs_worker.outcome"] == "retried"
    assert not one(spans, PROCESS).is_error


async def test_all_deliveries_of_a_request_are_one_trace(collector: Collector) -> None:
    """A request without a context gets one with its first copy."""
    replica = Replica(collector)
    replica.service.answers = [BUSY]
    spans = await replica.work(delivery())
    publish = one(spans, f"publish {QUEUE}.retry.10s")
    (copy,) = replica.publisher.published

    assert str(copy.headers[names.TRACEPARENT]).startswith(publish.context)
    assert (publish.kind, one(spans, PROCESS).parent_id) == (4, "")


async def test_concurrent_deliveries_have_separate_spans(collector: Collector) -> None:
    """Each call and each event belongs to its own delivery, however they interleave."""
    replica = Replica(collector)
    spans = await replica.work(*(delivery(request_id=f"r-{number}") for number in range(50)))
    processes = {span.span_id: span for span in spans if span.name == PROCESS}
    events = {str(event.headers["traceparent"])[:-2]: event.body["request_id"] for event in replica.publisher.published}

    assert len({span.trace_id for span in processes.values()}) == 50
    for name in (CREATE, SUCCEEDED):
        assert {span.parent_id for span in spans if span.name == name} == processes.keys()
    for span in collector.named(SUCCEEDED):
        assert events[span.context] == processes[span.parent_id].attributes["dcs_worker.request_id"]


async def test_unconfirmed_publish_is_failed_span(collector: Collector) -> None:
    """Every attempt is a span; the delivery's span is not failed by it."""
    replica = Replica(collector, publisher=FakePublisher(refusals=1))
    spans = await replica.work(delivery())
    first, second = collector.named(SUCCEEDED)

    assert (first.attributes["error.type"], first.is_error, second.is_error) == ("UnconfirmedError", True, False)
    assert not one(spans, PROCESS).is_error


async def test_invalid_message_is_traced(collector: Collector) -> None:
    """Without the ids that could not be read."""
    replica = Replica(collector)
    spans = await replica.work(FakeDelivery(b"secret text"))
    process = one(spans, PROCESS)

    assert process.attributes["error.type"] == "invalid_request"
    assert process.attributes["dcs_worker.parked"] is True
    assert "dcs_worker.request_id" not in process.attributes
    assert {span.name for span in spans} >= {f"publish {QUEUE}.parked"}


async def test_defect_ends_span_with_error_class(collector: Collector) -> None:
    """Only the class of the error is exported; its text may hold anything."""
    replica = Replica(collector)
    replica.publisher.event = None  # type: ignore[assignment,method-assign]  # a defect
    spans = await replica.work(delivery())
    process = one(spans, PROCESS)

    assert (process.attributes["dcs_worker.reason"], process.attributes["error.type"]) == ("defect", "TypeError")


async def test_open_spans_are_exported_as_abandoned(collector: Collector) -> None:
    """Calls that a drain abandoned are exported, because an operator will look for them."""
    replica = Replica(collector)
    replica.service.answers = [asyncio.Event()]
    replica.deliver(delivery())
    async with asyncio.timeout(5):
        while not replica.service.got:
            await asyncio.sleep(0)
    await replica.flow.drain(0.0)
    assert repr(replica.tracing) == "<Tracing: 2 spans open>"
    await replica.tracing.aclose()

    assert {(span.name, span.attributes["error.type"]) for span in collector.spans} == {
        (PROCESS, "abandoned"),
        (CREATE, "abandoned"),
    }

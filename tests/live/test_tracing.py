"""Tracing as its users see it: a real worker between a real broker and the fake DCS, and a real OTLP receiver."""

import signal
import time
from pathlib import Path

from schemas import names
from tests.fakes.otlp_collector import Collector
from tools.harness.running_system import PROJECT, TOKEN, RunningSystem, machine_load_factor, request, until

TRACE = "0af7651916cd43dd8448eb211c80319c"
SENDER = "b7ad6b7169203331"
PROCESS = f"process {names.REQUEST_QUEUE}"
CREATE = "POST /v2/{project_id}/migration/instance"
LOOK = "GET /v2/{project_id}/migration-tasks"


async def test_trace_covers_request_from_sender_to_event(vhost: str, tmp_path: Path) -> None:
    """One trace: the sender's span, the delivery, the call, the publish; service and event carry its context."""
    async with Collector() as collector, RunningSystem(vhost, tmp_path) as system:
        worker = system.worker(
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY=100, WORKER_RECONCILE="ambiguous"
        )
        await worker.ready()
        headers = {"traceparent": f"00-{TRACE}-{SENDER}-01", "tracestate": "vendor=opaque"}
        await system.publish(request("secret-name", "traced"), headers=headers, correlation_id="c-1")
        await system.publish(request("other", "begins"))
        events = await system.answered(2)
        await until(lambda: len(collector.spans) >= 6, 10, worker.explain)

        spans = {span.name: span for span in collector.spans if span.trace_id == TRACE}
        process, call = spans[PROCESS], spans[CREATE]
        publish = spans["publish dcs.migration.events:migration.succeeded"]
        assert process.parent_id == SENDER
        assert call.parent_id == publish.parent_id == process.span_id
        event = events["traced"][0]
        assert event.headers["traceparent"] == f"{publish.context}01"
        assert event.headers["tracestate"] == "vendor=opaque"
        assert publish.attributes["messaging.message.id"] == event.properties.message_id
        (got,) = (call for call in system.fake_dcs.calls if call.name == "secret-name")
        sent = {name.lower(): value for name, value in got.headers.items()}
        assert sent["traceparent"] == f"{call.context}01"
        assert call.attributes["url.full"] == f"{system.fake_dcs.url}/v2/{PROJECT}/migration/instance"
        (own,) = (span for span in collector.named(PROCESS) if span.trace_id != TRACE)
        assert own.parent_id == ""
        assert events["begins"][0].headers["traceparent"].startswith(f"00-{own.trace_id}-")

        worker.process.send_signal(signal.SIGTERM)
        assert await worker.ended() == 0
        lines = [line for line in worker.log() if line["event"] == "request.succeeded"]
        assert {line["trace_id"] for line in lines} == {TRACE, own.trace_id}
        for secret in (TOKEN, "secret-name", "Creating an online"):
            assert secret.encode() not in b"".join(collector.bodies)


async def test_retried_request_has_one_trace(vhost: str, tmp_path: Path) -> None:
    """A create without an answer, the wait in the broker, the look-up that finds the task: all in one trace."""
    async with Collector() as collector, RunningSystem(vhost, tmp_path) as system:
        await system.fake_dcs.apply({"scripts": {"lost": ["create then drop"]}})
        worker = system.worker(
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_BSP_SCHEDULE_DELAY=100,
            WORKER_RECONCILE="ambiguous",
            WORKER_TRIES=1,
        )
        await worker.ready()
        await system.publish(request("lost", "lost"))
        await system.answered(1)
        await until(lambda: len(collector.named(PROCESS)) == 2, 10, worker.explain)

        assert len({span.trace_id for span in collector.spans}) == 1
        first, second = collector.named(PROCESS)
        (create,) = collector.named(CREATE)
        assert (first.attributes["dcs_worker.outcome"], second.attributes["dcs_worker.outcome"]) == (
            "retried",
            "succeeded",
        )
        assert (second.attributes["dcs_worker.reason"], second.attributes["dcs_worker.round"]) == ("adopted", 1)
        assert create.is_error
        assert create.attributes["error.type"] == "reset"
        assert collector.named(LOOK)[0].parent_id == second.span_id


async def test_missing_collector_loses_only_spans(vhost: str, tmp_path: Path) -> None:
    """Requests are worked on as usual, the log reports it, and the end is not delayed for long."""
    async with RunningSystem(vhost, tmp_path) as system:
        worker = system.worker(
            OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_BSP_SCHEDULE_DELAY=100, WORKER_RECONCILE="ambiguous"
        )
        await worker.ready()
        task_names = [f"untold-{number}" for number in range(20)]
        for name in task_names:
            await system.publish(request(name, name))
        await system.answered(20)
        system.assert_one_task_each(task_names)
        await until(lambda: any(line["event"] == "library.logged" for line in worker.log()), 10, worker.explain)
        began = time.monotonic()
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.ended() == 0
        assert time.monotonic() - began < 5 * machine_load_factor()

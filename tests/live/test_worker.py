"""The worker as its users see it: a real process between a real broker and the fake DCS."""

import asyncio
import json
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.exceptions import DeliveryError

from schemas import names
from tests.malformed_messages import FORGED, HOSTILE
from tools.harness.running_system import TOKEN, RunningSystem, machine_load_factor, request, until
from worker.rabbit.topology import Queue, describe

ENDS_SECONDS = 15.0


async def test_valid_request_creates_task_and_event(vhost: str, tmp_path: Path) -> None:
    """Requests in, tasks created, events out; fast start and stop, and the token is nowhere in the output."""
    async with RunningSystem(vhost, tmp_path) as system:
        worker = system.worker()
        assert await worker.ready() < 5 * machine_load_factor()
        task_names = [f"happy-{number}" for number in range(100)]
        for name in task_names:
            await system.publish(request(name, request_id=name), correlation_id=f"c-{name}", headers=TRACE)
        events = await system.answered(100)
        system.assert_one_task_each(task_names)
        event = events["happy-7"][0]
        assert (event.key, event.properties.type) == ("migration.succeeded", "dcs.migration.succeeded.v1")
        assert (event.properties.correlation_id, event.properties.message_id) == (
            "c-happy-7",
            event.headers["cloudEvents:id"],
        )
        assert event.headers["traceparent"] == TRACE["traceparent"]
        assert event.properties.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
        assert worker.metric("dcs_worker_deliveries_settled_total", 'outcome="succeeded"') == 100
        assert worker.metric("dcs_worker_in_flight_requests") == 0
        assert worker.get("/livez")[0] == 200
        started = time.monotonic()
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.ended() == 0
        assert time.monotonic() - started < 3 * machine_load_factor()
        finished = [line for line in worker.log() if line["event"] == "request.succeeded"]
        assert len(finished) == 100
        assert finished[0].keys() >= {"request_id", "project_id", "create_calls", "trace_id", "instance_id"}
        assert TOKEN not in worker.log_path.read_text()


TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


@pytest.mark.timeout(180)
async def test_hostile_messages_are_parked_and_worker_continues(vhost: str, tmp_path: Path) -> None:
    """Each malformed message is answered or parked as the table of reasons says; valid ones pass between them."""
    async with RunningSystem(vhost, tmp_path) as system:
        worker = system.worker()
        await worker.ready()
        for number, hostile in enumerate(HOSTILE):
            await system.publish(hostile.body, headers=dict(hostile.headers), correlation_id=f"h-{number}")
            await system.publish(request(f"good-{number}", request_id=f"good-{number}"))
        good = [f"good-{number}" for number in range(len(HOSTILE))]
        await until(lambda: len(system.events) >= 2 * len(HOSTILE), 60, worker.explain)
        answers = {event.properties.correlation_id: event.body for event in system.events}
        for number, hostile in enumerate(HOSTILE):
            body = answers[f"h-{number}"]
            assert (body["reason"], body["parked"]) == ("invalid_request", hostile.expect_parked), hostile.name
            assert body["violations"], hostile.name
        assert sorted(task.name for task in system.fake_dcs.tasks) == sorted(good)
        assert await system.depth(names.REQUEST_QUEUE) == 0
        expected = sum(hostile.expect_parked for hostile in HOSTILE)
        assert await system.depth(names.parked_queue(names.REQUEST_QUEUE)) == expected
        assert worker.process.poll() is None


@pytest.mark.timeout(120)
async def test_forged_state_headers_are_ignored(vhost: str, tmp_path: Path) -> None:
    """A sender's, also through an exchange that is bound: one create at once. In the queue itself: never two tasks."""
    async with RunningSystem(vhost, tmp_path) as system:
        worker = system.worker()
        await worker.ready()
        async with await system._connection.channel() as channel:
            bound = await channel.declare_exchange("bound", aio_pika.ExchangeType.FANOUT)
            await (await channel.get_exchange(names.REQUEST_EXCHANGE)).bind(bound)
        for number, forged in enumerate(FORGED):
            exchange, headers = (names.REQUEST_EXCHANGE, "bound")[number % 2], dict(forged.headers)
            await system.publish(request(f"sent-{number}", f"sent-{number}"), exchange=exchange, headers=headers)
            await system.publish(request(f"forged-{number}", f"forged-{number}"), headers=headers)
        events = await system.answered(2 * len(FORGED))
        created = [task.name for task in system.fake_dcs.tasks]
        assert len(created) == len(set(created))
        sent = [event.body for name, found in events.items() for event in found if name.startswith("sent-")]
        assert {(body.get("resolution"), body["attempts"]) for body in sent} == {("created", 1)}
        # Only a count in the queue itself can end a request early: of rounds, or of workers that it took down.
        missing = {number for number in range(len(FORGED)) if f"forged-{number}" not in created}
        assert {events[f"forged-{number}"][0].body["reason"] for number in missing} <= {"exhausted", "poison"}
        assert all({"x-round", "x-interruptions"} & FORGED[number].headers.keys() for number in missing)


async def test_retries_survive_worker_restart(vhost: str, tmp_path: Path) -> None:
    """The schedule is in the broker: another worker continues where the first one stopped."""
    async with RunningSystem(vhost, tmp_path) as system:
        await system.fake_dcs.apply({"scripts": {"busy": ["error 400 DCS.4026"] * 4 + ["ok"]}})
        first = system.worker(WORKER_TRIES=1)
        await first.ready()
        await system.publish(request("busy"))
        await until(lambda: first.metric("dcs_worker_deliveries_settled_total", 'outcome="retried"') == 2, 15)
        first.process.send_signal(signal.SIGTERM)
        assert await first.ended() == 0
        system.worker(WORKER_TRIES=1)
        events = await system.answered(1, 40)
        (event,) = next(iter(events.values()))
        assert event.body["attempts"] == 5
        system.assert_one_task_each(["busy"])


async def test_exhausted_request_is_parked_unchanged(vhost: str, tmp_path: Path) -> None:
    """Exhausted: a failed event, and a parked copy with body, properties, reason and state."""
    async with RunningSystem(vhost, tmp_path) as system:
        await system.fake_dcs.apply({"scripts": {"never": ["error 400 DCS.4026"]}})
        worker = system.worker(WORKER_TRIES=1, WORKER_RETRY_DELAYS="0.2,3.5")
        await worker.ready()
        migration = request("never")
        await system.publish(
            migration, headers={"mine": "kept"}, app_id="sender", priority=3, message_id="m-1", expiration=60
        )
        events = await system.answered(1, 30)
        (event,) = next(iter(events.values()))
        assert (event.body["reason"], event.body["parked"], event.body["attempts"]) == ("exhausted", True, 3)
        assert event.body["error"]["error_code"] == "DCS.4026"
        async with await system._connection.channel() as channel:
            parked = await (await channel.get_queue(names.parked_queue(names.REQUEST_QUEUE), ensure=False)).get()
            assert json.loads(parked.body) == migration
            assert (parked.app_id, parked.priority, parked.message_id, parked.expiration) == ("sender", 3, "m-1", None)
            headers = dict(parked.headers)
            await parked.ack()
        assert headers.keys() >= {"mine", "x-parked-reason", "x-parked-at", "x-attempts", "x-expiration"}
        assert (headers["x-parked-reason"], headers["x-attempts"], headers["mine"]) == ("exhausted", 3, "kept")
        assert not [name for name in headers if name.startswith(names.DEATH_PREFIXES)]


async def test_lost_answer_is_adopted_and_late_create_awaited(vhost: str, tmp_path: Path) -> None:
    """One task each, whether it was created before the connection dropped or after the deadline."""
    async with RunningSystem(vhost, tmp_path) as system:
        scripts = {"lost": ["create then drop"], "late": ["create late 3"], "never": ["hang", "ok"]}
        await system.fake_dcs.apply({"scripts": scripts})
        worker = system.worker(WORKER_DCS_TIMEOUT=1)
        await worker.ready()
        for name in scripts:
            await system.publish(request(name, request_id=name))
        events = await system.answered(3, 40)
        system.assert_one_task_each(list(scripts))
        resolutions = {name: events[name][0].body["resolution"] for name in scripts}
        assert resolutions == {"lost": "adopted", "late": "adopted", "never": "created"}


async def test_drain_lets_calls_in_flight_finish(vhost: str, tmp_path: Path) -> None:
    """SIGTERM with calls in flight: they settle, the rest is handed back, exit status 0; SIGINT twice ends at once."""
    async with RunningSystem(vhost, tmp_path) as system:
        await system.fake_dcs.apply({"latency": 1.0})
        first = system.worker(WORKER_PREFETCH=8)
        await first.ready()
        task_names = [f"drain-{number}" for number in range(40)]
        for name in task_names:
            await system.publish(request(name, request_id=name))
        await until(lambda: first.metric("dcs_worker_in_flight_requests") == 8, 10, first.explain)
        first.process.send_signal(signal.SIGTERM)
        assert await first.ended() == 0
        await system.fake_dcs.apply({"latency": 0.0})
        second = system.worker()
        await system.answered(40)
        system.assert_one_task_each(task_names)
        await system.fake_dcs.apply({"latency": 30.0})
        await system.publish(request("stuck"))
        await until(lambda: second.metric("dcs_worker_in_flight_requests") == 1, 10, second.explain)
        second.process.send_signal(signal.SIGINT)
        await until(lambda: any(line["event"] == "worker.draining" for line in second.log()), 5)
        second.process.send_signal(signal.SIGINT)
        assert await second.ended(2) == 128 + signal.SIGINT


def _queues(delay: float) -> tuple[Queue, ...]:
    return describe(names.REQUEST_QUEUE, names.REQUEST_EXCHANGE, names.EVENT_EXCHANGE, (delay,)).queues


@pytest.mark.parametrize(
    ("number", "existing", "difference"),
    [
        (
            -1,
            _queues(0.005)[-1].arguments,
            "queue 'dcs.migration.requests.retry.2s': x-message-ttl is 5, but should be 2000;",
        ),
        (
            *(1, {"x-queue-type": "classic"}),
            "queue 'dcs.migration.requests': x-dead-letter-exchange is not set, but should be '' (empty);",
        ),
    ],
)
async def test_different_topology_ends_with_one_line(
    vhost: str, tmp_path: Path, number: int, existing: Mapping[str, Any], difference: str
) -> None:
    """A queue with other arguments: one error that names the difference, exit status 78; cured, it starts."""
    async with RunningSystem(vhost, tmp_path) as system, await system._connection.channel() as channel:
        queue = _queues(2.0)[number]
        await channel.declare_queue(queue.name, durable=True, arguments={"x-queue-type": "quorum", **existing})
        worker = system.worker()
        assert await worker.ended(ENDS_SECONDS) == 78
        (line,) = [line for line in worker.log() if line["level"] == "error" and "logger" not in line]
        assert difference in line["message"]

        await channel.queue_delete(queue.name)
        await system.worker().ready()
        await system.publish(request("cured", request_id="cured"))
        await system.answered(1)
        system.assert_one_task_each(["cured"])


async def test_configuration_faults_are_reported_together(vhost: str, tmp_path: Path) -> None:
    """One line each, no secret, exit status 78."""
    async with RunningSystem(vhost, tmp_path) as system:
        worker = system.worker(WORKER_PREFETCH="many", WORKER_SETTLE=1, WORKER_AUTH_TOKEN=None)
        assert await worker.ended() == 78
        lines = worker.log()
        assert {(line["level"], line["event"]) for line in lines} == {("error", "config.invalid")}
        assert {line["variable"] for line in lines} == {"WORKER_PREFETCH", "WORKER_SETTLE", "credentials"}
        assert "WORKER_AUTH_TOKEN" in next(line["problem"] for line in lines if line["variable"] == "credentials")


async def test_worker_exits_without_broker(tmp_path: Path, vhost: str) -> None:
    """Exit status 69 after WORKER_BROKER_PATIENCE; until then not ready, but alive."""
    async with RunningSystem(vhost, tmp_path) as system:
        worker = system.worker(WORKER_AMQP_URL="amqp://127.0.0.1:1/", WORKER_BROKER_PATIENCE=2)
        await until(lambda: worker.get("/livez")[0] == 200, 10, worker.explain)
        assert worker.get("/readyz")[0] == 503
        assert await worker.ended() == 69


async def test_worker_stops_while_broker_is_away(tmp_path: Path, vhost: str) -> None:
    """SIGTERM ends it."""
    async with RunningSystem(vhost, tmp_path) as system:
        worker = system.worker(WORKER_AMQP_URL="amqp://127.0.0.1:1/,amqp://127.0.0.1:2/")
        await until(lambda: worker.get("/livez")[0] == 200, 10, worker.explain)
        await asyncio.sleep(0.3)
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.ended(5) == 0


async def test_properties_that_are_not_utf8_break_nothing(vhost: str, tmp_path: Path) -> None:
    """A correlation id in Latin-1 passes through a retry queue; in the event, which all may read, it is hexadecimal."""
    async with RunningSystem(vhost, tmp_path) as system:
        await system.fake_dcs.apply({"scripts": {"odd": ["error 400 DCS.4026"] * 3 + ["ok"]}})
        worker = system.worker(WORKER_RETRY_DELAYS="0.2,4")
        await worker.ready()
        await system.publish(request("odd"), correlation_id="m\udcfcnchen")
        events = await system.answered(1, 20)
        (event,) = next(iter(events.values()))
        assert event.properties.correlation_id == b"m\xfcnchen".hex()
        assert worker.metric("dcs_worker_requests_received_total", 'redelivered="true"') == 0


async def test_full_reply_queue_delays_no_request(vhost: str, tmp_path: Path) -> None:
    """The event is published once, the request acknowledged, and a log line names the full reply queue."""
    async with RunningSystem(vhost, tmp_path) as system:
        async with await system._connection.channel() as channel:
            full = {"x-max-length": 1, "x-overflow": "reject-publish"}
            await channel.declare_queue("answers", arguments=full)
            with suppress(DeliveryError):
                for _ in range(3):
                    await channel.default_exchange.publish(aio_pika.Message(b"full"), "answers")
        worker = system.worker()
        await worker.ready()
        await system.publish(request("asked", request_id="asked"), reply_to="answers")
        succeeded = 'outcome="succeeded"'
        await until(lambda: worker.metric("dcs_worker_deliveries_settled_total", succeeded) == 1, 20, worker.explain)
        assert len(system.by_request()["asked"]) == 1

        def refused_levels() -> list[str]:
            return [line["level"] for line in worker.log() if line["event"] == "reply.refused"]

        await until(lambda: bool(refused_levels()), 20, worker.explain)  # the tries go on behind the acknowledgement
        assert refused_levels() == ["warning"]
        assert await system.all_empty()


async def test_port_in_use_is_reported_in_one_line(vhost: str, tmp_path: Path) -> None:
    """Exit status 78, naming the variable."""
    async with RunningSystem(vhost, tmp_path) as system:
        first = system.worker()
        await first.ready()
        second = system.worker(WORKER_HTTP_PORT=first.http_port)
        assert await second.ended() == 78
        reason = f"cannot listen on 127.0.0.1 port {first.http_port}: address already in use; set other values"
        assert f"WORKER_HTTP_PORT: {reason}" in second.log_path.read_text()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("WORKER_HTTP_HOST", "a..b", "WORKER_HTTP_HOST, WORKER_HTTP_PORT: cannot listen on a..b"),
        ("WORKER_CLAIMS_URL", "redis://127.0.0.1:1/0?foo=bar", "WORKER_CLAIMS_URL: has an option that is not known"),
    ],
)
async def test_unusable_setting_is_reported_in_one_line(
    vhost: str, tmp_path: Path, name: str, value: str, sentence: str
) -> None:
    """Exit status 78, naming the variable, also where only its use shows what is wrong."""
    async with RunningSystem(vhost, tmp_path) as system:
        worker = system.worker(**{name: value})
        assert await worker.ended() == 78
        assert sentence in worker.log_path.read_text()
        assert "Traceback" not in worker.log_path.read_text()


async def test_rotated_token_is_used_without_restart(vhost: str, tmp_path: Path) -> None:
    """The file in WORKER_SECRETS_DIR is read again when it changes."""
    async with RunningSystem(vhost, tmp_path) as system:
        (tmp_path / "worker_auth_token").write_text("first")
        await system.fake_dcs.apply({"auth": {"mode": "token", "token": "first"}})
        worker = system.worker(WORKER_AUTH_TOKEN=None)
        await worker.ready()
        await system.publish(request("one"))
        await system.answered(1)
        (tmp_path / "worker_auth_token").write_text("second")
        await system.fake_dcs.apply({"auth": {"mode": "token", "token": "second"}})
        await system.publish(request("two"))
        await system.answered(2)
        system.assert_one_task_each(["one", "two"])
        await until(lambda: any(line["event"] == "secrets.reloaded" for line in worker.log()), 10, worker.explain)
        (line,) = [line for line in worker.log() if line["event"] == "secrets.reloaded"]
        assert (line["level"], line["variable"]) == ("info", "WORKER_AUTH_TOKEN")

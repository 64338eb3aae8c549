"""`parked list`, `show`, `export` and `drop` on a real broker: everything is seen, and nothing is lost by it."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis

from schemas import names
from schemas.envelope import Envelope
from schemas.event import Reason
from schemas.request import parse
from tests.fakes.servers import RabbitMqServer, RedisServer
from tests.live.redis_replicas import NOW, replica
from tools.harness.parked_queue import ParkedQueueSetup, parked_headers, read, settings
from tools.harness.running_system import request
from worker.claims.scripts import record_key
from worker.pipeline import final_events
from worker.policy.migration_request import MigrationRequest, migration
from worker.rabbit.connection import Brokers
from worker.rabbit.tools import parked_queue
from worker.rabbit.tools.broker_access import BrokerError, open_connection
from worker.rabbit.tools.parked_queue import RENEWED_AT_RETURNS, ParkedQueueInUseError, open_parked_queue


@pytest.fixture
def lot(vhost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ParkedQueueSetup:
    """A vhost of this test's own, and an empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return ParkedQueueSetup(vhost, settings(vhost, tmp_path))


def test_list_counts_by_reason_and_error_code(lot: ParkedQueueSetup) -> None:
    """Groups with counts and ages, each request on its own line on demand, filters, and JSON."""
    lot.declare()
    lot.park_many(3)
    coded = parked_headers(x_parked_reason="forbidden", x_parked_error_code="DCS.4030")
    lot.park(request("other-1", "other-1"), request("other-2", "other-2", project_id="p2"), headers=coded)
    lot.park(b"no request \x1b[31m", headers=parked_headers(x_parked_reason="invalid_request"), message_id="m1")

    plain = lot.run("parked", "list")
    assert plain.status == 0
    assert [line.split()[:3] for line in plain.output.splitlines()[1:]] == [
        ["exhausted", "-", "3"],
        ["forbidden", "DCS.4030", "2"],
        ["invalid_request", "-", "1"],
    ]
    each = lot.run("parked", "list", "--each")
    shown = [line.split()[0] for line in each.output.splitlines()[1:]]
    assert sorted(shown) == ["m1", "other-1", "other-2", "parked-0", "parked-1", "parked-2"]
    machine = lot.run("parked", "list", "--each", "--json", "--project", "p2").answer
    assert (machine["requests"], machine["each"][0]["request_id"]) == (1, "other-2")
    assert machine["groups"][0]["oldest"] == "2026-11-01T09:00:00.000Z"
    for choice, count in (("--name", "other-*"), 2), (("--older-than", "1h"), 6), (("--error-code", "DCS.4030"), 2):
        assert lot.run("parked", "list", "--json", *choice).answer["requests"] == count
    assert lot.run("parked", "list", "--name", "nothing").output == "No parked request matches.\n"
    assert len(lot.taken()) == 6


def test_show_prints_whole_request(lot: ParkedQueueSetup) -> None:
    """Its timeline, headers, properties and body; no control code of a sender reaches the terminal."""
    lot.declare()
    headers = parked_headers(x_last_sent_at="2026-11-01T08:30:00.000Z", traceparent="\x1b]0;owned\x07")
    headers[names.PARKED_REASON] = "unresolved"
    lot.park(request("one", "one"), headers=headers, correlation_id="c1")
    lot.park_many(2)

    shown = lot.run("parked", "show", "one")
    assert shown.status == 0
    for words in ("unresolved, 2026-11-01T09:00:00.000Z", "possible until 2026-11-01T08:30", "c1", '"vpc_id"', "owned"):
        assert words in shown.output
    assert "\x1b" not in shown.output
    machine = lot.run("parked", "show", "one", "--json").answer
    assert json.loads(machine[0]["body"]) == request("one", "one")
    missing = lot.run("parked", "show", "two")
    assert (missing.status, missing.output) == (1, "")
    assert "'two'" in missing.errors


def test_dropped_requests_are_only_in_the_file(lot: ParkedQueueSetup, tmp_path: Path) -> None:
    """Without --yes nothing happens; with it the file holds them byte for byte and is never overwritten."""
    lot.declare()
    ids = lot.park_many(40)
    lot.park(b"\xff\xfe", headers=parked_headers(x_parked_reason="invalid_request"), message_id="m1")

    dry = lot.run("parked", "drop", "--reason", "exhausted")
    assert "Dry run: nothing was deleted. --yes deletes these 40 requests." in dry.output
    assert list(tmp_path.iterdir()) == []
    assert len(lot.run("parked", "export").output.splitlines()) == 41
    wet = lot.run("parked", "drop", "--reason", "exhausted", "--yes", "--to", "gone.jsonl")
    assert (wet.status, wet.errors) == (0, "")
    lines = [json.loads(line) for line in (tmp_path / "gone.jsonl").read_text().splitlines()]
    assert {line["request_id"]: json.loads(line["body"]) for line in lines} == {one: request(one, one) for one in ids}
    again = lot.run("parked", "drop", "--all", "--yes", "--to", "gone.jsonl")
    assert (again.status, "exists and is not overwritten" in again.errors) == (1, True)
    assert lot.run("parked", "drop", ids[0], "--yes").status == 1
    for path in ("none/gone.jsonl", "gone.jsonl/gone.jsonl"):
        refused = lot.run("parked", "drop", "--all", "--yes", "--to", path)
        assert (refused.status, refused.output, refused.errors.count("\n")) == (1, "", 1)
        assert f"Cannot write to the file {path}: " in refused.errors
    assert [message.body for message in lot.taken()] == [b"\xff\xfe"]


def test_drop_to_standard_output_needs_no_writable_folder(lot: ParkedQueueSetup, tmp_path: Path) -> None:
    """There are the requests and nothing else; the result is on standard error."""
    lot.declare()
    ids = lot.park_many(30)

    dry = lot.run("parked", "drop", "--all", "--to", "-")
    done = lot.run("parked", "drop", "--all", "--yes", "--to", "-")

    assert (dry.status, dry.output) == (0, "")
    assert "... and 10 more" in dry.errors
    assert "--yes deletes these 30 requests." in dry.errors
    assert sorted(json.loads(line)["request_id"] for line in done.output.splitlines()) == sorted(ids)
    assert (done.status, done.errors) == (0, "30 requests were deleted and are saved in standard output.\n")
    assert (lot.taken(), list(tmp_path.iterdir())) == ([], [])


def test_copies_of_a_request_count_once(lot: ParkedQueueSetup) -> None:
    """A batch that was sent twice is as many requests as it has lines."""
    lot.declare()
    lot.park_many(5)
    lot.park_many(5)

    assert lot.run("parked", "list").output.splitlines()[1].split()[:3] == ["exhausted", "-", "5"]
    counted = lot.run("parked", "list", "--json").answer
    assert (counted["requests"], counted["messages"]) == (5, 10)
    assert "deletes these 5 (10 messages) requests" in lot.run("parked", "drop", "--all").output
    dry = lot.run("parked", "replay", "--all")
    assert (dry.status, "5 unknown. Dry run" in dry.output) == (0, True)
    done = lot.run("parked", "replay", "--all", "--canary", "0", "--yes")
    assert (done.status, done.output) == (0, "5 (10 messages) replayed, 0 still parked.\n")
    assert len(lot.taken(names.REQUEST_QUEUE)) == 10


def test_replay_and_drop_delete_record_in_redis(lot: ParkedQueueSetup, redis_node: RedisServer) -> None:
    """Copies are then no longer answered as parked. While Redis is away nothing is changed; a dry run needs none."""
    lot.declare()
    ids = lot.park_many(3)
    orders = {id_: migration_of(request(id_, id_)) for id_ in ids}
    asyncio.run(conclude_parked(redis_node.url, orders.values()))

    away = {"WORKER_CLAIMS_URL": "redis://127.0.0.1:1/0"}
    for command in (("replay", "--canary", "0"), ("drop",)):
        refused = lot.run("parked", *command, ids[0], "--yes", **away)
        assert (refused.status, "Redis cannot be reached" in refused.errors) == (69, True)
    assert lot.run("parked", "drop", ids[0], **away).status == 0

    claims = {"WORKER_CLAIMS_URL": redis_node.url}
    assert lot.run("parked", "drop", ids[0], "--yes", **claims).status == 0
    assert lot.run("parked", "replay", ids[1], "--canary", "0", "--yes", **claims).status == 0
    assert asyncio.run(records_of(redis_node.port)) == {record_key(orders[ids[2]])}
    assert (len(lot.taken()), len(lot.taken(names.REQUEST_QUEUE))) == (1, 1)


def migration_of(body: Mapping[str, Any]) -> MigrationRequest:
    """The migration request of a message body."""
    raw = json.dumps(body).encode()
    return migration(parse(raw, max_bytes=65536), default_region="cn-north-4", with_marker=True, message=raw)


async def conclude_parked(url: str, orders: Iterable[MigrationRequest]) -> None:
    """Store that the requests are parked, as a worker does."""
    async with replica(url) as claims:
        for order in orders:
            envelope = Envelope(1, 0, 1, 0, 0, NOW, None, False, False)
            await claims.conclude(order, final_events.failed(order, envelope, Reason.EXHAUSTED, NOW))


async def records_of(port: int) -> set[bytes]:
    """The keys of the records in Redis."""
    client = redis.Redis(port=port)
    found: list[Any] = await client.keys("dcs-worker:{*")
    await client.aclose()
    return set(found)


def test_repeated_reading_keeps_parked_requests(lot: ParkedQueueSetup) -> None:
    """A queue that drops what was returned more than 20 times, as RabbitMQ 4.0 does by itself, stays whole."""
    lot.declare({"x-delivery-limit": 20})
    headers = parked_headers(text="ü", number=-1, nested={"list": [1, "two", True]})
    lot.park(*(b"%d" % number for number in range(50)), headers=headers, message_id="the same", priority=3)
    deaths = {names.DEATHS: [{"queue": names.REQUEST_QUEUE, "exchange": names.REQUEST_EXCHANGE, "reason": "expired"}]}
    lot.park(b"50", headers=headers | deaths | {names.JOURNAL: "forged"}, message_id="the same", priority=3)

    counts = set()
    for _ in range(3 * RENEWED_AT_RETURNS):
        found = asyncio.run(read(lot.amqp_url))
        assert sorted(int(one.body) for one in found) == list(range(51))
        counts.add(max(int(str(one.headers.get(names.DELIVERY_COUNT, 0))) for one in found))

    assert max(counts) == RENEWED_AT_RETURNS - 1
    of_sender = {name: headers[name] for name in ("text", "number", "nested")} | deaths
    for message in lot.taken():
        kept = {name: value for name, value in message.headers.items() if name not in names.BROKER}
        expected = of_sender if message.body == b"50" else headers  # state that a sender wrote is not copied
        assert (kept, message.message_id, message.priority) == (expected, "the same", 3)


async def test_second_reader_waits_then_reports_reason(vhost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that one command holds do not look like an empty queue to another."""
    monkeypatch.setattr(parked_queue, "OTHER_READER_TIMEOUT_SECONDS", 0.5)
    lot = ParkedQueueSetup(vhost, {})
    await asyncio.to_thread(lot.declare)
    await asyncio.to_thread(lot.park_many, 5)
    async with (
        open_connection(Brokers((vhost,)), "test") as connection,
        open_parked_queue(connection, names.REQUEST_QUEUE) as one,
    ):
        assert [len(batch) async for batch in one.read()] != []
        with pytest.raises(ParkedQueueInUseError, match="Another `parked` command is running"):
            await read(vhost)
    assert len(await read(vhost)) == 5


def test_broker_problem_is_reported_in_one_sentence(lot: ParkedQueueSetup) -> None:
    """No broker, no queue: exit status 69, and what to do."""
    unreachable = lot.run("parked", "list", WORKER_AMQP_URL="amqp://guest:hunter2@127.0.0.1:1/")
    assert (unreachable.status, unreachable.output) == (69, "")
    assert "hunter2" not in unreachable.errors
    missing = lot.run("parked", "list")
    assert (missing.status, missing.errors.count("\n")) == (69, 1)
    assert "topology apply" in missing.errors


async def test_lost_connection_returns_parked_requests(vhost: str, rabbit: RabbitMqServer) -> None:
    """When the broker closes the connection meanwhile, that is reported, and all requests are parked as before."""
    lot = ParkedQueueSetup(vhost, {})
    await asyncio.to_thread(lot.declare)
    await asyncio.to_thread(lot.park_many, 5)
    stack = AsyncExitStack()
    async with open_connection(Brokers((vhost,)), "test") as connection:
        one = await stack.enter_async_context(open_parked_queue(connection, names.REQUEST_QUEUE))
        found = [message async for batch in one.read() for message in batch]
        await rabbit.ctl("close_all_connections", "--vhost", vhost.rpartition("/")[2], "maintenance")
        with pytest.raises(BrokerError, match="is parked again"):
            await one.move(found[0], {})
        with pytest.raises(BrokerError, match="is parked again"):
            await stack.aclose()
    assert len(await read(vhost)) == 5

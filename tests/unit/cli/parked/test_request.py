"""ParkedMessage requests read from messages, their records, and the headers of their replay."""

import json
from typing import Any

import pytest

from schemas import identity, names
from schemas.envelope import Envelope
from tests.unit.cli.parked.parked_messages import BODY, HEADERS, NOW, SETTINGS, parked_request
from worker.policy.retry_policy import RetryPolicy


def test_replay_starts_a_new_schedule_and_keeps_the_last_create() -> None:
    """A worker looks for the task first, and knows when a create may have been in flight."""
    replay_headers = parked_request(
        headers={**HEADERS, "mine": "kept", names.DELIVERY_COUNT: 9, "x-death": [], "CC": ["q"]}
    ).replay_headers(10, NOW)

    read = Envelope.read(replay_headers, redelivered=False, now=NOW)
    assert (read.round, read.replays, read.attempts, read.deliveries, read.interruptions) == (0, 1, 2, 8, 1)
    assert read.is_repeat
    assert replay_headers[names.LAST_SENT_AT] == HEADERS[names.LAST_SENT_AT]
    assert replay_headers[names.FIRST_RECEIVED_AT] == HEADERS[names.FIRST_RECEIVED_AT]
    assert replay_headers["mine"] == "kept"
    assert replay_headers.keys().isdisjoint(
        {names.PARKED_REASON, names.PARKED_AT, names.DELIVERY_COUNT, "x-death", "CC"}
    )


@pytest.mark.parametrize("limit", [2, 3, 10, 40])
def test_replayed_poison_is_a_suspect_but_not_parked_at_once(limit: int) -> None:
    """Half of its deliveries are left."""
    rules = RetryPolicy(delivery_limit=limit)
    replay_headers = parked_request(headers={**HEADERS, names.INTERRUPTIONS: limit}).replay_headers(limit, NOW)

    read = Envelope.read(replay_headers, redelivered=False, now=NOW)
    assert (rules.is_poison(read), rules.is_suspect(read)) == (False, True)


def test_replay_without_an_open_create_has_no_time_of_one() -> None:
    """A missing header means that no create call is without an answer."""
    headers = {name: value for name, value in HEADERS.items() if name != names.LAST_SENT_AT}

    assert names.LAST_SENT_AT not in parked_request(headers=headers).replay_headers(10, NOW)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-death": [{"reason": "delivery_limit", "queue": "q"}]},
        {},
        {**HEADERS, names.LAST_SENT_AT: 7},
        {**HEADERS, names.ROUND: "many"},
    ],
)
def test_unknown_time_of_the_last_create_becomes_now(headers: dict[str, Any]) -> None:
    """A message parked by the broker, or with invalid state headers, waits for the whole listing delay."""
    replay_headers = parked_request(headers=headers).replay_headers(10, NOW)

    read = Envelope.read(replay_headers, redelivered=False, now=NOW)
    assert read.last_sent_at is not None
    assert read.last_sent_at > 1_790_000_000
    assert read.is_repeat


def test_message_parked_by_the_broker_has_the_reason_of_the_broker() -> None:
    """A task of any age can belong to it; malformed headers give an unknown reason."""
    dead = parked_request(headers={"x-death": [{"reason": "delivery_limit"}]})

    assert (dead.reason, dead.parked_at, dead.age(NOW)) == ("by the broker: delivery_limit", None, None)
    assert dead.envelope.first_received_at == 0
    for hostile in ({"x-death": "x"}, {"x-death": [7]}, {"x-death": [{"reason": 7}]}, {names.PARKED_REASON: 7}):
        assert parked_request(headers=hostile).reason == "by the broker: unknown"
    assert parked_request(headers={names.PARKED_REASON: "\x1b[31m" + "x" * 100}).reason == "\ufffd[31m" + "x" * 59


def test_state_of_a_sender_that_the_broker_parked_is_not_believed() -> None:
    """His own `expiration` dead-letters his headers: neither reason nor state, and the replay starts from nothing."""
    deaths = {names.DEATHS: [{"reason": "expired", "queue": SETTINGS.queue, "exchange": "dcs.migration"}]}
    forged = {**HEADERS, names.EXPIRATION: "1", names.REPLAYS: 5, names.INTERRUPTIONS: 100, **deaths}
    request = parked_request(headers=forged)
    assert (request.reason, request.parked_at) == ("by the broker: expired", None)
    read = Envelope.read(request.replay_headers(10, NOW), redelivered=False, now=NOW)
    assert (read.attempts, read.round, read.replays, read.interruptions, read.deliveries) == (0, 0, 1, 0, 1)
    assert read.is_repeat
    assert names.EXPIRATION not in request.replay_headers(10, NOW)


def test_invalid_request_has_an_id_and_the_readable_identity() -> None:
    """Its id is its message id, or the hash of its body."""
    assert parked_request(b"[]", message_id="m").ids == ["m", identity.body_id(b"[]")]
    nameless = parked_request(b"\xff")
    assert (nameless.id, nameless.parsed) == (identity.body_id(b"\xff"), None)
    broken = parked_request(BODY.replace(b'"vpc_id"', b'"vpc"'), message_id="m")
    assert (broken.id, broken.name, broken.parsed) == ("r", "batch-1", None)
    assert broken.invalid_reason == "task.vpc: is not a known field; did you mean vpc_id?"


def test_record_has_body_headers_and_properties_of_any_type() -> None:
    """Bytes that are not UTF-8 are base64."""
    headers = {"bytes": b"\xff", "list": [1, {"deep": b"\xfe"}], "none": None, names.DELIVERY_COUNT: 3}
    record = parked_request(b"\xff", {**HEADERS, **headers}, message_id="m", priority=0).record()

    assert json.loads(json.dumps(record)) == record
    assert record["body"] == {"base64": "/w=="}
    assert record["headers"]["list"] == [1, {"deep": {"base64": "/g=="}}]
    assert record["headers"][names.LAST_SENT_AT] == HEADERS[names.LAST_SENT_AT]
    assert names.DELIVERY_COUNT not in record["headers"]
    assert record["properties"] == {"message_id": "m", "priority": 0}

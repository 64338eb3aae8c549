"""What a parked message tells, and what a copy of it says."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from pamqp.commands import Basic

from schemas import identity, names
from schemas.envelope import Envelope
from worker.cli.parked.record import record_line
from worker.cli.parked.request import ParkedRequest
from worker.config import Settings, load
from worker.policy.rules import Rules
from worker.rabbit.parked import Parked

NOW = 1_800_000_000.0
SETTINGS: Settings = load({}, credentials=False).settings
TASK = {"name": "batch-1", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}
BODY = json.dumps({"request_id": "r", "project_id": "p", "task": TASK}).encode()
HEADERS = {
    names.ATTEMPTS: 2,
    names.ROUND: 4,
    names.DELIVERIES: 7,
    names.INTERRUPTIONS: 1,
    names.FIRST_RECEIVED_AT: "2026-11-01T08:00:00.000Z",
    names.LAST_SENT_AT: "2026-11-01T08:30:00.000Z",
    names.PARKED_REASON: "exhausted",
    names.PARKED_AT: "2026-11-01T09:00:00.000Z",
}


def parked_request(body: bytes = BODY, headers: Mapping[str, Any] = HEADERS, **properties: Any) -> ParkedRequest:
    """The story of a parked message."""
    return ParkedRequest.read(Parked(body, Basic.Properties(headers=dict(headers), **properties), 1, False), SETTINGS)


def test_a_copy_begins_a_new_schedule_and_keeps_what_is_known() -> None:
    """The worker that gets it looks first, and knows when a create may have been in flight."""
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
def test_poison_has_another_chance_alone(limit: int) -> None:
    """A request that was parked because it takes workers down is not parked again at once, but still suspect."""
    rules = Rules(delivery_limit=limit)
    replay_headers = parked_request(headers={**HEADERS, names.INTERRUPTIONS: limit}).replay_headers(limit, NOW)

    read = Envelope.read(replay_headers, redelivered=False, now=NOW)
    assert (rules.is_poison(read), rules.is_suspect(read)) == (False, True)


def test_what_certainly_was_never_sent_stays_so() -> None:
    """No header for the last create means that there was none, and so it is in the copy."""
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
def test_what_nobody_can_vouch_for_may_have_been_sent_just_now(headers: dict[str, Any]) -> None:
    """A message that the broker parked, or whose state cannot be read, waits the whole settle time."""
    replay_headers = parked_request(headers=headers).replay_headers(10, NOW)

    read = Envelope.read(replay_headers, redelivered=False, now=NOW)
    assert read.last_sent_at is not None
    assert read.last_sent_at > 1_790_000_000
    assert read.is_repeat


def test_what_the_broker_parked_says_why() -> None:
    """Its reason is the broker's, and a task of any age may be its own."""
    dead = parked_request(headers={"x-death": [{"reason": "delivery_limit"}]})

    assert (dead.reason, dead.parked_at, dead.age(NOW)) == ("by the broker: delivery_limit", None, None)
    assert dead.envelope.first_received_at == 0
    for hostile in ({"x-death": "x"}, {"x-death": [7]}, {"x-death": [{"reason": 7}]}, {names.PARKED_REASON: 7}):
        assert parked_request(headers=hostile).reason == "by the broker: unknown"
    assert parked_request(headers={names.PARKED_REASON: "\x1b[31m" + "x" * 100}).reason == "\ufffd[31m" + "x" * 59


def test_what_is_no_request_can_still_be_called() -> None:
    """By its message id, or by the hash of its body; and whatever identity can be read is."""
    assert parked_request(b"[]", message_id="m").ids == ["m", identity.body_id(b"[]")]
    nameless = parked_request(b"\xff")
    assert (nameless.id, nameless.parsed) == (identity.body_id(b"\xff"), None)
    broken = parked_request(BODY.replace(b'"vpc_id"', b'"vpc"'), message_id="m")
    assert (broken.id, broken.name, broken.parsed) == ("r", "batch-1", None)
    assert "task.vpc_id" in broken.invalid_reason


def test_a_record_has_everything() -> None:
    """Body, headers and properties of any kind, as one line of JSON."""
    headers = {"bytes": b"\xff", "list": [1, {"deep": b"\xfe"}], "none": None, names.DELIVERY_COUNT: 3}
    (text,) = record_line(parked_request(b"\xff", {**HEADERS, **headers}, message_id="m", priority=0)).splitlines()

    record = json.loads(text)
    assert record["body"] == {"base64": "/w=="}
    assert record["headers"]["list"] == [1, {"deep": {"base64": "/g=="}}]
    assert record["headers"][names.LAST_SENT_AT] == HEADERS[names.LAST_SENT_AT]
    assert names.DELIVERY_COUNT not in record["headers"]
    assert record["properties"] == {"message_id": "m", "priority": 0}

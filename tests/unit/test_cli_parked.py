"""`parked` without a broker: what is chosen, what a message tells, what becomes of it, and what is said."""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from pamqp.commands import Basic
from typer.testing import CliRunner

from schemas import identity, names
from schemas.envelope import Envelope
from worker.cli.app import app
from worker.cli.parked.record import line
from worker.cli.parked.selection import Selection, chosen
from worker.cli.parked.story import Story
from worker.config import Settings, load
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


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test reads a `.env` that lies about, or leaves the AMQP library quieter than it was."""
    monkeypatch.chdir(tmp_path)
    yield
    logging.getLogger("aiormq").setLevel(logging.NOTSET)


def story(body: bytes = BODY, headers: Mapping[str, Any] = HEADERS, **properties: Any) -> Story:
    """The story of a parked message."""
    return Story.read(Parked(body, Basic.Properties(headers=dict(headers), **properties), 1, False), SETTINGS)


def test_a_copy_begins_a_new_schedule_and_keeps_what_is_known() -> None:
    """The worker that gets it looks first, and knows when a create may have been in flight."""
    again = story(headers={**HEADERS, "mine": "kept", names.DELIVERY_COUNT: 9, "x-death": [], "CC": ["q"]}).again()

    read = Envelope.read(again, redelivered=False, now=NOW)
    assert (read.round, read.replays, read.attempts, read.deliveries, read.interruptions) == (0, 1, 2, 8, 1)
    assert read.is_repeat
    assert again[names.LAST_SENT_AT] == HEADERS[names.LAST_SENT_AT]
    assert again[names.FIRST_RECEIVED_AT] == HEADERS[names.FIRST_RECEIVED_AT]
    assert again["mine"] == "kept"
    assert again.keys().isdisjoint({names.PARKED_REASON, names.PARKED_AT, names.DELIVERY_COUNT, "x-death", "CC"})


def test_what_certainly_was_never_sent_stays_so() -> None:
    """No header for the last create means that there was none, and so it is in the copy."""
    headers = {name: value for name, value in HEADERS.items() if name != names.LAST_SENT_AT}

    assert names.LAST_SENT_AT not in story(headers=headers).again()


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
    again = story(headers=headers).again()

    read = Envelope.read(again, redelivered=False, now=NOW)
    assert read.last_sent_at is not None
    assert read.last_sent_at > 1_790_000_000
    assert read.is_repeat


def test_what_the_broker_parked_says_why() -> None:
    """Its reason is the broker's, and a task of any age may be its own."""
    dead = story(headers={"x-death": [{"reason": "delivery_limit"}]})

    assert (dead.reason, dead.parked_at, dead.age(NOW)) == ("by the broker: delivery_limit", None, None)
    assert dead.envelope.first_received_at == 0
    for hostile in ({"x-death": "x"}, {"x-death": [7]}, {"x-death": [{"reason": 7}]}, {names.PARKED_REASON: 7}):
        assert story(headers=hostile).reason == "by the broker: unknown"
    assert story(headers={names.PARKED_REASON: "\x1b[31m" + "x" * 100}).reason == "\ufffd[31m" + "x" * 59


def test_what_is_no_request_can_still_be_called() -> None:
    """By its message id, or by the hash of its body; and whatever identity can be read is."""
    assert story(b"[]", message_id="m").ids == ["m", identity.body_id(b"[]")]
    nameless = story(b"\xff")
    assert (nameless.id, nameless.order) == (identity.body_id(b"\xff"), None)
    broken = story(BODY.replace(b'"vpc_id"', b'"vpc"'), message_id="m")
    assert (broken.id, broken.name, broken.order) == ("r", "batch-1", None)
    assert "task.vpc_id" in broken.fault


def test_a_record_has_everything() -> None:
    """Body, headers and properties of any kind, as one line of JSON."""
    headers = {"bytes": b"\xff", "list": [1, {"deep": b"\xfe"}], "none": None, names.DELIVERY_COUNT: 3}
    (text,) = line(story(b"\xff", {**HEADERS, **headers}, message_id="m", priority=0)).splitlines()

    record = json.loads(text)
    assert record["body"] == {"base64": "/w=="}
    assert record["headers"]["list"] == [1, {"deep": {"base64": "/g=="}}]
    assert record["headers"][names.LAST_SENT_AT] == HEADERS[names.LAST_SENT_AT]
    assert names.DELIVERY_COUNT not in record["headers"]
    assert record["properties"] == {"message_id": "m", "priority": 0}


@pytest.mark.parametrize(
    ("options", "is_taken"),
    [
        ({"ids": ["r"]}, True),
        ({"ids": ["m"]}, True),
        ({"ids": ["other"]}, False),
        ({"ids": None, "every": True}, True),
        ({"ids": None, "reason": "exhausted", "project": "p"}, True),
        ({"ids": None, "reason": "exhausted", "project": "q"}, False),
        ({"ids": ["r"], "reason": "forbidden"}, False),
        ({"ids": None, "name": "batch-*"}, True),
        ({"ids": None, "name": "batch"}, False),
        ({"ids": None, "error_code": "DCS.1"}, False),
        ({"ids": None, "older_than": "2d"}, True),
        ({"ids": None, "older_than": "20000d"}, False),
    ],
)
def test_all_that_is_asked_for_must_hold(options: dict[str, Any], *, is_taken: bool) -> None:
    """Ids are alternatives, everything else narrows the choice."""
    assert chosen(**options).takes(story(message_id="m"), NOW) is is_taken


def test_an_unknown_age_is_not_old_enough() -> None:
    """What may be young is not taken for old."""
    assert not Selection(older_than=1.0).takes(story(headers={}), NOW)


def test_nonsense_is_no_choice() -> None:
    """A span that is none, and everything together with something."""
    with pytest.raises(typer.BadParameter, match="no span of time"):
        chosen(None, older_than="soon")
    with pytest.raises(typer.BadParameter, match="no other choice"):
        chosen(["r"], every=True)


@pytest.mark.parametrize("command", ["list", "show", "replay", "drop", "export"])
def test_help_ends_with_an_example(command: str) -> None:
    """Every command below `parked` shows on its last line how it is called."""
    result = CliRunner().invoke(app, ["parked", command, "--help"])

    assert result.exit_code == 0
    assert result.output.rstrip().splitlines()[-1].startswith(f"  Example: dcs-worker parked {command}")


@pytest.mark.parametrize("command", ["replay", "drop"])
def test_what_changes_something_wants_a_choice(command: str) -> None:
    """Without ids, filter or --all it is wrong usage, and nobody is asked anything."""
    result = CliRunner().invoke(app, ["parked", command, "--yes"])

    assert result.exit_code == 2
    assert "say which" in result.stderr


def test_looking_needs_credentials_and_acting_does_not() -> None:
    """The dry run ends with 78 and the names of the variables; --yes gets as far as the broker."""
    environment = {"WORKER_AMQP_URL": "amqp://guest:guest@127.0.0.1:1/"}
    dry = CliRunner().invoke(app, ["parked", "replay", "--all"], env=environment)
    wet = CliRunner().invoke(app, ["parked", "replay", "--all", "--yes"], env=environment)

    assert (dry.exit_code, wet.exit_code) == (78, 69)
    assert "WORKER_AUTH_TOKEN" in dry.stderr

"""`explain` without a broker: timelines of messages on standard input, and wrong usage."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from schemas import names
from schemas.envelope import Envelope
from schemas.timestamp import to_text
from tests.unit.cli.parked.parked_messages import (
    BODY,
    HEADERS,
    JOURNAL,
    JOURNAL_TEXTS,
    JOURNAL_TIME,
)
from worker.cli.app import app

EXAMPLES = Path(__file__).parents[3] / "schemas" / "examples" / "event"


def explained(given: object, *arguments: str) -> Result:
    """The result of `explain -` with this on standard input."""
    text = given if isinstance(given, bytes) else json.dumps(given).encode()
    return CliRunner().invoke(app, ["explain", "-", *arguments], input=text)


def event(name: str = "failed_exhausted") -> dict[str, Any]:
    """The body of an event."""
    content: dict[str, Any] = json.loads((EXAMPLES / f"{name}.json").read_bytes())
    return content | {"received_at": to_text(JOURNAL_TIME), "completed_at": to_text(JOURNAL_TIME + 125)}


def test_timeline_of_an_event_has_one_line_per_entry() -> None:
    """Identity of the request, then each entry with time and age, then the event."""
    done = explained({"body": event(), "headers": {names.JOURNAL: JOURNAL.text()}})

    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"request       {event()['request_id']}"
    assert lines[3] == "state         failed"
    timed = [line.split(maxsplit=1) for line in lines[6:]]
    assert [when for when, _ in timed] == [to_text(JOURNAL_TIME + after) for after in (0, 0.3, 0.4, 0.4, 125)]
    assert [line.split("  ")[-1] for line in lines[7:10]] == JOURNAL_TEXTS
    assert "2 min 5 s  failed: exhausted" in lines[10]
    assert lines[10].endswith("; parked, needs an operator")


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.iterdir()))
def test_every_kind_of_event_has_a_timeline(name: str) -> None:
    """Also without headers."""
    done = explained(event(name))
    assert done.exit_code == 0
    assert (
        done.stdout.splitlines()[-1]
        .split("  ")[-1]
        .startswith(("succeeded: task", "failed: ", "provisioned: ", "provisioning failed: "))
    )


def test_timeline_without_journal_has_error_code_calls_and_request_id() -> None:
    """They are in the event."""
    words = explained(event("failed_rejected")).stdout.splitlines()[-1]
    assert "failed: rejected (DCS.4013): " in words
    assert words.endswith(f"(create calls: 1; last DCS request id: {event('failed_rejected')['dcs_request_id']})")


@pytest.mark.parametrize("form", ["text", "object", "rabbitmqadmin", "base64", "export", "lines"])
def test_message_formats_of_common_tools_are_read(form: str) -> None:
    """One message or several, with text, object or base64 bodies."""
    text, headers = json.dumps(event()), {names.JOURNAL: JOURNAL.text()}
    coded = base64.b64encode(text.encode()).decode()
    managed = {"routing_key": "migration.failed", "properties": {"headers": headers}}
    forms: dict[str, Any] = {
        "text": {"body": text, "headers": headers},
        "object": {"body": event(), "headers": headers},
        "rabbitmqadmin": [managed | {"payload": text, "payload_encoding": "string"}],
        "base64": [managed | {"payload": coded, "payload_encoding": "base64"}],
        "export": {"body": {"base64": coded}, "headers": headers, "properties": {}},
        "lines": b'{"body": %s, "headers": {}}\n\n{"body": %s, "headers": %s}\n'
        % (text.encode(), text.encode(), json.dumps(headers).encode()),
    }
    done = explained(forms[form], "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)[-1]
    assert [step["did"] for step in found["timeline"]] == ["received", "create", "look", "wait", "event"]
    assert [step["after"] for step in found["timeline"]] == [0, 0.3, 0.4, 0.4, 125]
    assert (found["state"], found["timeline"][1]["id"], found["timeline"][-1]["event"]) == (
        "failed",
        "d-1",
        event(),
    )


def test_request_in_a_retry_queue_has_a_timeline() -> None:
    """Also a parked request, as `parked export` writes it."""
    headers = Envelope(1, 1, 1, 0, 0, JOURNAL_TIME, JOURNAL_TIME, True, False, journal=JOURNAL).write({})
    waiting = json.loads(explained({"body": BODY.decode(), "headers": headers}, "--json").stdout)[0]
    parked = json.loads(explained({"body": BODY.decode(), "headers": HEADERS}, "--json").stdout)[0]
    assert (waiting["state"], waiting["timeline"][-1]["did"], waiting["request_id"]) == ("on its way", "wait", "r")
    assert (parked["state"], [step["did"] for step in parked["timeline"]]) == ("parked", ["received", "parked"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"", "has no message"),
        (b"[]", "has no message"),
        (b"hello", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"7", "Message 1"),
        (b'[{"body": {"base64": "!"}}]', "Message 1"),
        (b'{"a": 1}', "Message 1"),
        (b'{"body": "{}", "headers": []}', "Message 1"),
        (b'{"body": "{}", "properties": 5}', "Message 1"),
        (b'{"body": null, "headers": 5}', "Message 1"),
    ],
)
def test_invalid_input_exits_with_1_and_one_sentence(given: bytes, words: str) -> None:
    """Standard output is empty, and there is no traceback."""
    done = explained(given)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert words in done.stderr


def test_listen_with_standard_input_is_wrong_usage() -> None:
    """So is a missing id."""
    assert CliRunner().invoke(app, ["explain", "-", "--listen"], input="").exit_code == 2
    assert CliRunner().invoke(app, ["explain"]).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["-", "--project", "p"],
        ["r-1", "--listen", "--project", "p"],
        ["r-1", "--region", "cn-north-4"],
        ["r-1", "--project", "../../admin"],
        ["r-1", "--project", "p", "--region", "nowhere-1"],
    ],
)
def test_options_that_do_not_fit_are_wrong_usage(arguments: list[str]) -> None:
    """Nothing is asked."""
    assert CliRunner().invoke(app, ["explain", *arguments], input="").exit_code == 2


def test_unreachable_services_are_no_proof_of_absence() -> None:
    """With --project every source is tried, each says why it was not asked, and the exit status is 69."""
    environment = {
        "WORKER_AMQP_URL": "amqp://guest:hunter2@127.0.0.1:1/",
        "WORKER_CLAIMS_URL": "redis://:hunter2@127.0.0.1:1/0",
        "WORKER_DCS_ENDPOINTS": '{"cn-north-4": "http://127.0.0.1:1"}',
        "WORKER_AUTH_TOKEN": "t",
    }
    plain = CliRunner().invoke(app, ["explain", "r-1", "--project", "p"], env=environment)
    machine = CliRunner().invoke(app, ["explain", "r-1", "--project", "p", "--json"], env=environment)

    assert (plain.exit_code, machine.exit_code) == (69, 69)
    assert "state         not known" in plain.stdout
    assert "failed     parked queue " in plain.stdout
    (timeline,) = json.loads(machine.stdout)
    assert (timeline["request_id"], timeline["project_id"], timeline["timeline"]) == ("r-1", "p", [])
    assert [source["state"] for source in timeline["sources"]] == ["failed", "failed", "failed", "not asked"]
    assert "hunter2" not in plain.output + machine.output


def test_timeline_of_80_columns_breaks_between_words() -> None:
    """What follows a break is below the text, not below the time."""
    given = {"body": event(), "headers": {names.JOURNAL: JOURNAL.text()}}
    done = CliRunner().invoke(app, ["explain", "-"], input=json.dumps(given).encode(), env={"COLUMNS": "80"})
    lines = done.stdout.splitlines()

    assert max(map(len, JOURNAL_TEXTS)) > 40
    assert all(len(line) <= 80 for line in lines)
    words = " ".join(" ".join(lines).split())
    assert all(part in words for text in JOURNAL_TEXTS for part in text.split())


@pytest.mark.parametrize("arguments", [["r-1"], ["r-1", "--listen"]])
def test_unreachable_broker_exits_with_69(arguments: list[str]) -> None:
    """It is named, without the password; and, unless an event is awaited, what would be asked with --project."""
    url = "amqp://guest:hunter2@127.0.0.1:1/"
    done = CliRunner().invoke(app, ["explain", *arguments], env={"WORKER_AMQP_URL": url})
    assert done.exit_code == 69
    assert "Broker 127.0.0.1:1: it cannot be reached: Connection refused" in done.output
    assert "hunter2" not in done.output
    assert done.stdout.count("needs --project") == (0 if "--listen" in arguments else 2)

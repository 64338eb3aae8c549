"""`explain` without a broker: what a journal says in words, and what standard input may hold."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from schemas import names
from schemas.envelope import Envelope
from schemas.journal import EMPTY, Journal, Kind
from schemas.timestamp import to_text
from tests.unit.cli.parked.test_request import BODY, HEADERS, parked_request
from worker.cli.app import app
from worker.cli.parked.journal_text import describe_entry
from worker.cli.parked.parked_timeline import timeline_of_parked
from worker.cli.parked.timeline_text import render_steps, render_timeline

NOW = 1_790_000_000.0
EXAMPLES = Path(__file__).parents[3] / "schemas" / "examples" / "event"
JOURNAL = (
    EMPTY.add(NOW + 0.3, Kind.CREATE, "500", n=1, took=0.3, evidence="ambiguous", code="DCS.5000", id_="d-1")
    .add(NOW + 0.4, Kind.LOOK, "absent", took=0.1)
    .add(NOW + 0.4, Kind.WAIT, "settle", n=2, took=60)
)
WORDS = [
    "create 1: 500 (DCS.5000) after 0.3 s: a task may exist, DCS request id d-1",
    "look: there is no task after 0.1 s",
    "waits 1 min in retry queue 2: a create call may still take effect",
]


def explained(given: object, *arguments: str) -> Result:
    """`explain -` with this on standard input."""
    text = given if isinstance(given, bytes) else json.dumps(given).encode()
    return CliRunner().invoke(app, ["explain", "-", *arguments], input=text)


def event(name: str = "failed_exhausted") -> dict[str, Any]:
    """The body of an event."""
    content: dict[str, Any] = json.loads((EXAMPLES / f"{name}.json").read_bytes())
    return content | {"received_at": to_text(NOW), "completed_at": to_text(NOW + 125)}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (
            {"did": Kind.CREATE, "got": "done", "n": 2, "took": 0.25, "id_": "d-2"},
            "create 2: task created after 0.25 s",
        ),
        (
            {"did": Kind.CREATE, "got": "stale", "n": 1, "evidence": "never_sent"},
            "create 1: stale after 0 s: it was never",
        ),
        ({"did": Kind.CREATE, "got": "429", "n": 1, "evidence": "refused"}, "create 1: 429 after 0 s: DCS did not act"),
        ({"did": Kind.LOOK, "got": "found"}, "look: the task is there"),
        ({"did": Kind.LOOK, "got": "several"}, "look: several tasks may be the request's"),
        ({"did": Kind.LOOK, "got": "403", "evidence": "refused", "code": "DCS.4030"}, "look: 403 (DCS.4030)"),
        ({"did": Kind.GATE, "took": 3725.0}, "waited 1 h 2 min for its turn to call"),
        ({"did": Kind.WAIT, "got": "timeout", "n": 1, "took": 10}, "waits 10 s in retry queue 1: after timeout"),
        ({"did": Kind.WAIT, "got": "claimed", "n": 1, "took": 10}, "another replica has it in hand"),
        ({"did": Kind.RETURNED}, "handed back by a replica"),
        ({"did": Kind.REDELIVERED, "n": 1}, "delivered again: 1 delivery ended without a word"),
        ({"did": Kind.REDELIVERED, "n": 3}, "delivered again: 3 deliveries ended without a word"),
        ({"did": Kind.PARKED, "got": "exhausted", "code": "DCS.5000"}, "parked: exhausted (DCS.5000)"),
        ({"did": Kind.REPLAYED, "n": 2}, "sent again by an operator, replay 2"),
    ],
)
def test_every_entry_is_a_sentence(told: dict[str, Any], words: str) -> None:
    """For people who know neither code nor header."""
    (entry,) = EMPTY.add(NOW, **told).entries
    assert words in describe_entry(entry)


def test_a_message_from_a_queue_is_told_line_by_line() -> None:
    """Body and headers of an event: whose request, each entry with its time and age, and how it ended."""
    done = explained({"body": event(), "headers": {names.JOURNAL: JOURNAL.text()}})

    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"request       {event()['request_id']}"
    assert lines[3] == "state         failed"
    timed = [line.split(maxsplit=1) for line in lines[6:]]
    assert [when for when, _ in timed] == [to_text(NOW + after) for after in (0, 0.3, 0.4, 0.4, 125)]
    assert [line.split("  ")[-1] for line in lines[7:10]] == WORDS
    assert "2 min 5 s  failed: exhausted" in lines[10]
    assert lines[10].endswith("and parked for a person")


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.iterdir()))
def test_every_kind_of_event_can_be_told(name: str) -> None:
    """Also from its body alone."""
    done = explained(event(name))
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1].split("  ")[-1].startswith(("succeeded: task", "failed: "))


def test_without_a_journal_the_event_still_says_most() -> None:
    """Error code, calls, and the id by which DCS knows the deciding one."""
    words = explained(event("failed_rejected")).stdout.splitlines()[-1]
    assert "failed: rejected (DCS.4013): " in words
    assert words.endswith(
        f"(create calls: 1; DCS request id of the last answer: {event('failed_rejected')['dcs_request_id']})"
    )


@pytest.mark.parametrize("form", ["text", "object", "rabbitmqadmin", "base64", "export", "lines"])
def test_however_a_message_was_written_down(form: str) -> None:
    """As the tools at hand write it, one or many."""
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
    tale = json.loads(done.stdout)[-1]
    assert [step["did"] for step in tale["timeline"]] == ["received", "create", "look", "wait", "event"]
    assert [step["after"] for step in tale["timeline"]] == [0, 0.3, 0.4, 0.4, 125]
    assert (tale["state"], tale["timeline"][1]["id"], tale["timeline"][-1]["event"]) == ("failed", "d-1", event())


def test_a_request_on_its_way_is_told_too() -> None:
    """A copy from a retry queue, or one that is parked, as `parked export` wrote it."""
    headers = Envelope(1, 1, 1, 0, 0, NOW, NOW, True, False, journal=JOURNAL).write({})
    waiting = json.loads(explained({"body": BODY.decode(), "headers": headers}, "--json").stdout)[0]
    parked = json.loads(explained({"body": BODY.decode(), "headers": HEADERS}, "--json").stdout)[0]
    assert (waiting["state"], waiting["timeline"][-1]["did"], waiting["request_id"]) == ("on its way", "wait", "r")
    assert (parked["state"], [step["did"] for step in parked["timeline"]]) == ("parked", ["received", "parked"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"", "There is no message"),
        (b"[]", "There is no message"),
        (b"hello", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"7", "Message 1"),
        (b'[{"body": {"base64": "!"}}]', "Message 1"),
        (b'{"a": 1}', "Message 1"),
        (b'{"body": "{}", "headers": []}', "Message 1"),
        (b'{"body": "{}", "properties": 5}', "Message 1"),
        (b'{"body": null, "headers": 5}', "Message 1"),
    ],
)
def test_what_is_no_message_is_one_sentence(given: bytes, words: str) -> None:
    """Exit status 1, nothing on standard output, no traceback."""
    done = explained(given)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert words in done.stderr


def test_the_same_timeline_is_in_parked_show() -> None:
    """A parked message with its story: parking is told once, by its journal."""
    parked = JOURNAL.add(NOW + 60, Kind.PARKED, "exhausted", code="DCS.5000")
    text = render_steps(timeline_of_parked(parked_request(headers={**HEADERS, names.JOURNAL: parked.text()})))
    assert [line.split("  ")[-1] for line in text.splitlines()[2:]] == [*WORDS, "parked: exhausted (DCS.5000)"]


def test_what_was_left_out_is_said_where_it_is_missing() -> None:
    """After the first entries."""
    journal = EMPTY
    for number in range(100):
        journal = journal.add(NOW + number, Kind.CREATE, "500", n=number + 1, evidence="ambiguous")
    read = Journal.read(journal.text())
    assert read is not None
    text = render_timeline(timeline_of_parked(parked_request(headers={**HEADERS, names.JOURNAL: journal.text()})))
    (gap,) = [number for number, line in enumerate(text.splitlines()) if f"({read.dropped} entries left out" in line]
    assert "create 6:" in text.splitlines()[gap - 1]
    assert f"create {100 - len(read.entries) + 7}:" in text.splitlines()[gap + 1]


def test_a_journal_that_is_none_is_said_to_be_unreadable() -> None:
    """Nothing of what a sender wrote there reaches the terminal; one without state beside it is not even read."""
    forged = {names.JOURNAL: "\x1b[2J owned"}
    shown = render_timeline(timeline_of_parked(parked_request(headers={**HEADERS, **forged})))
    assert "cannot be read" in shown
    assert "owned" not in shown
    assert "cannot be read" not in render_timeline(
        timeline_of_parked(parked_request(headers={names.PARKED_REASON: "exhausted", **forged}))
    )


def test_either_listening_or_reading() -> None:
    """Both at once is wrong usage."""
    assert CliRunner().invoke(app, ["explain", "-", "--listen"], input="").exit_code == 2
    assert CliRunner().invoke(app, ["explain"]).exit_code == 2


@pytest.mark.parametrize("arguments", [["r-1"], ["r-1", "--listen"]])
def test_without_a_broker_it_says_so(arguments: list[str]) -> None:
    """69 and one sentence that holds no password."""
    url = "amqp://guest:hunter2@127.0.0.1:1/"
    done = CliRunner().invoke(app, ["explain", *arguments], env={"WORKER_AMQP_URL": url})
    assert (done.exit_code, done.stdout) == (69, "")
    assert "hunter2" not in done.stderr

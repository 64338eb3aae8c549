"""Timelines of events and parked requests as text, and the text of each journal entry."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas import names
from schemas.event import MigrationFailed, Reason
from schemas.journal import EMPTY, Journal, Kind
from schemas.last_error import LastError
from schemas.timestamp import to_text
from tests.unit.cli.parked.parked_messages import HEADERS, JOURNAL, JOURNAL_TEXTS, JOURNAL_TIME, NOW, parked_request
from worker.cli.parked.listing import _details
from worker.cli.parked.timeline import (
    describe_entry,
    render_steps,
    render_timeline,
    timeline_of_event,
    timeline_of_event_body,
    timeline_of_parked,
)

EXAMPLES = Path(__file__).parents[4] / "schemas" / "examples" / "event"


def event(name: str = "failed_exhausted") -> bytes:
    """The body of an event."""
    content: dict[str, Any] = json.loads((EXAMPLES / f"{name}.json").read_bytes())
    times = {"received_at": to_text(JOURNAL_TIME), "completed_at": to_text(JOURNAL_TIME + 125)}
    return json.dumps(content | times).encode()


def test_timeline_of_an_event_has_one_line_per_entry() -> None:
    """Identity of the request, then each entry with time and age, then the event."""
    timeline = timeline_of_event_body(event(), {names.JOURNAL: JOURNAL.text()})
    lines = render_timeline(timeline).splitlines()

    assert lines[0] == f"request       {json.loads(event())['request_id']}"
    assert lines[3] == "state         failed"
    timed = [line.split(maxsplit=1) for line in lines[6:]]
    assert [when for when, _ in timed] == [to_text(JOURNAL_TIME + after) for after in (0, 0.3, 0.4, 0.4, 125)]
    assert [line.split("  ")[-1] for line in lines[7:10]] == JOURNAL_TEXTS
    assert "2 min 5 s  failed: exhausted" in lines[10]
    assert lines[10].endswith("; parked, needs an operator")


def test_timeline_of_an_event_as_json_has_journal_and_event() -> None:
    """With the seconds since the first receipt."""
    found = timeline_of_event_body(event(), {names.JOURNAL: JOURNAL.text()}).as_json()
    assert [step["did"] for step in found["timeline"]] == ["received", "create", "look", "wait", "event"]
    assert [step["after"] for step in found["timeline"]] == [0, 0.3, 0.4, 0.4, 125]
    assert (found["state"], found["timeline"][1]["id"]) == ("failed", "d-1")
    assert found["timeline"][-1]["event"] == json.loads(event())


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.iterdir()))
def test_every_kind_of_event_has_a_timeline(name: str) -> None:
    """Also without headers."""
    text = render_steps(timeline_of_event_body(event(name), {}))
    kinds = ("succeeded: task", "failed: ", "provisioned: ", "provisioning failed: ")
    assert text.splitlines()[-1].split("  ")[-1].startswith(kinds)


def test_timeline_without_journal_has_error_code_calls_and_request_id() -> None:
    """They are in the event."""
    words = render_steps(timeline_of_event_body(event("failed_rejected"), {})).splitlines()[-1]
    request_id = json.loads(event("failed_rejected"))["dcs_request_id"]
    assert "failed: rejected (DCS.4013): " in words
    assert words.endswith(f"(create calls: 1; last DCS request id: {request_id})")


def test_timeline_of_80_columns_breaks_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows a break is below the text, not below the time."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = render_timeline(timeline_of_event_body(event(), {names.JOURNAL: JOURNAL.text()})).splitlines()

    assert max(map(len, JOURNAL_TEXTS)) > 40
    assert all(len(line) <= 80 for line in lines)
    words = " ".join(" ".join(lines).split())
    assert all(part in words for text in JOURNAL_TEXTS for part in text.split())


def test_parked_show_has_the_same_timeline() -> None:
    """The parking is one line, from the journal."""
    parked = JOURNAL.add(JOURNAL_TIME + 60, Kind.PARKED, "exhausted", code="DCS.5000")
    text = render_steps(timeline_of_parked(parked_request(headers={**HEADERS, names.JOURNAL: parked.text()})))
    assert [line.split("  ")[-1] for line in text.splitlines()[2:]] == [*JOURNAL_TEXTS, "parked: exhausted (DCS.5000)"]


def test_parked_request_names_who_answered_last_and_has_no_open_call() -> None:
    """In timeline, details and JSON; `exhausted` says that no task exists."""
    error = LastError("HTTP 403 from neither DCS nor its gateway (server nginx): blocked", 403)
    parked = JOURNAL.add(JOURNAL_TIME + 60, Kind.PARKED, "exhausted")
    own = {
        names.LAST_ERROR: error.text(),
        names.LAST_SENT_AT: to_text(JOURNAL_TIME),
        names.PARKED_AT: to_text(JOURNAL_TIME),
    }
    for reason, is_open in (("exhausted", False), ("unresolved", True)):
        headers = {**HEADERS, **own, names.PARKED_REASON: reason, names.JOURNAL: parked.text()}
        request = parked_request(headers=headers)
        assert "server nginx" in timeline_of_parked(request).steps[-1].text
        assert ("a task may exist" in "\n".join(_details(request))) is is_open
        assert request.summary()["error"]["http_status"] == 403


def test_parked_conflict_is_not_said_to_be_the_last_answer() -> None:
    """It is kept although a look-up failed later, and names the create."""
    parked = JOURNAL.add(JOURNAL_TIME + 60, Kind.PARKED, "unresolved")
    conflict = LastError("the task exists", 409, is_conflict=True).text()
    request = parked_request(headers={**HEADERS, names.LAST_ERROR: conflict, names.JOURNAL: parked.text()})
    assert timeline_of_parked(request).steps[-1].text.endswith("; a create was answered: the task exists")


def test_omitted_entries_are_a_line_at_their_place() -> None:
    """It is after the first entries."""
    journal = EMPTY
    for number in range(100):
        journal = journal.add(JOURNAL_TIME + number, Kind.CREATE, "500", n=number + 1, evidence="ambiguous")
    read = Journal.read(journal.text())
    assert read is not None
    text = render_timeline(timeline_of_parked(parked_request(headers={**HEADERS, names.JOURNAL: journal.text()})))
    (gap,) = [number for number, line in enumerate(text.splitlines()) if f"({read.dropped} entries omitted" in line]
    assert "create call 6:" in text.splitlines()[gap - 1]
    assert f"create call {100 - len(read.entries) + 7}:" in text.splitlines()[gap + 1]


def test_invalid_journal_is_not_printed() -> None:
    """A line says that it is not readable; a journal without state headers is ignored."""
    forged = {names.JOURNAL: "\x1b[2J owned"}
    shown = render_timeline(timeline_of_parked(parked_request(headers={**HEADERS, **forged})))
    assert "is not readable" in shown
    assert "owned" not in shown
    assert "is not readable" not in render_timeline(
        timeline_of_parked(parked_request(headers={names.PARKED_REASON: "exhausted", **forged}))
    )


@pytest.mark.parametrize(("value", "is_repeated"), [(True, True), ("true", False), (None, False)])
def test_answer_from_memory_is_named(value: object, *, is_repeated: bool) -> None:
    """In the text and as JSON, by the worker's own header only."""
    times = {"received_at": "2026-11-01T08:00:00.000Z", "completed_at": "2026-11-01T08:00:01.000Z"}
    event = MigrationFailed(request_id="r", reason=Reason.REJECTED, message="m", **times)
    timeline = timeline_of_event(event, {} if value is None else {names.REPEATED: value})
    assert ("answered from memory" in render_steps(timeline)) is is_repeated
    assert ("repeated" in timeline.as_json()["timeline"][-1]) is is_repeated


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"did": Kind.CREATE, "got": "done", "n": 2, "took": 0.25, "id_": "d-2"},
            "create call 2: task created after 0.25 s",
        ),
        (
            {"did": Kind.CREATE, "got": "stale", "n": 1, "evidence": "never_sent"},
            "create call 1: stale after 0 s, not sent",
        ),
        (
            {"did": Kind.CREATE, "got": "429", "n": 1, "evidence": "refused"},
            "create call 1: 429 after 0 s, rejected: no task was created",
        ),
        ({"did": Kind.LOOKUP, "got": "found"}, "lookup: task found"),
        ({"did": Kind.LOOKUP, "got": "several"}, "lookup: tasks found that may belong to the request"),
        ({"did": Kind.LOOKUP, "got": "403", "evidence": "refused", "code": "DCS.4030"}, "lookup: 403 (DCS.4030)"),
        ({"did": Kind.GATE, "took": 3725.0}, "waited 1 h 2 min for the permit of a call"),
        ({"did": Kind.WAIT, "got": "timeout", "n": 1, "took": 10}, "waits 10 s in retry queue 1: because of timeout"),
        ({"did": Kind.WAIT, "got": "claimed", "n": 1, "took": 10}, "another replica is handling the request"),
        ({"did": Kind.RETURNED}, "handed back by a replica that was shutting down or had no Redis"),
        ({"did": Kind.REDELIVERED, "n": 1}, "redelivered: 1 delivery was interrupted"),
        ({"did": Kind.REDELIVERED, "n": 3}, "redelivered: 3 deliveries were interrupted"),
        ({"did": Kind.PARKED, "got": "exhausted", "code": "DCS.5000"}, "parked: exhausted (DCS.5000)"),
        ({"did": Kind.REPLAYED, "n": 2}, "replayed by an operator (replay 2)"),
    ],
)
def test_journal_entry_is_a_sentence(fields: dict[str, Any], words: str) -> None:
    """It has the result, the duration and the reason."""
    (entry,) = EMPTY.add(NOW, **fields).entries
    assert words in describe_entry(entry)

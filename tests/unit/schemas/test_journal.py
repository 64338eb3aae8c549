"""The journal in its header: both ways, bounded, and whatever a sender may put there."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from schemas import names
from schemas.envelope import Envelope
from schemas.generate import documents
from schemas.journal import EMPTY, ENTRIES, FIRST, LIMIT, Journal, Kind
from schemas.timestamp import to_text

NOW = 1_790_000_000.0
ENVELOPE = Envelope(0, 0, 1, 0, 0, NOW, None, is_repeat=True, is_redelivered=False)

steps = st.fixed_dictionaries(
    {"did": st.sampled_from(Kind), "got": st.text(max_size=50), "n": st.integers(0, 10**9)},
    optional={
        "took": st.floats(-1, 1e12),
        "evidence": st.sampled_from(["never_sent", "refused", "ambiguous"]),
        "code": st.none() | st.text(max_size=60),
        "id_": st.none() | st.text(max_size=60),
    },
)


def told(steps: list[dict[str, Any]]) -> Journal:
    """A journal with these entries, a second apart."""
    journal = EMPTY
    for number, step in enumerate(steps):
        journal = journal.add(NOW + number, **step)
    return journal


def full(count: int) -> Journal:
    """A journal of calls that can be told apart."""
    return told([{"did": Kind.CREATE, "got": "500", "n": n, "id_": "d" * 32} for n in range(count)])


@settings(max_examples=60)
@given(st.lists(steps, min_size=1, max_size=ENTRIES + 10))
def test_every_journal_entry_is_read_back(steps: list[dict[str, Any]]) -> None:
    """Within its bounds, in plain ASCII, true to its schema, and as it was written; the newest entry is there."""
    journal = told(steps)
    text = journal.text()
    read = Journal.read(text)
    assert read is not None
    assert read.text() == text
    assert (len(text) <= LIMIT, text.isascii()) == (True, True)
    assert read.entries[-1] == journal.entries[-1]
    assert len(read.entries) + read.dropped == len(steps)
    Draft202012Validator(documents()["journal"]).validate(json.loads(text))


def test_an_empty_journal_is_no_header() -> None:
    """An empty journal has no header."""
    assert (EMPTY.text(), bool(EMPTY)) == ("", False)
    assert names.JOURNAL not in ENVELOPE.write({})


@pytest.mark.parametrize("count", [ENTRIES + 1, 1000])
def test_a_full_journal_keeps_the_first_and_the_newest(count: int) -> None:
    """What is left out is counted, and was between the first ones and the newest."""
    read = Journal.read(full(count).text())
    assert read is not None
    numbers = [entry.n for entry in read.entries]
    newest = len(numbers) - FIRST
    assert numbers == [*range(FIRST), *range(count - newest, count)]
    assert newest > FIRST
    assert read.dropped == count - len(numbers)


def test_times_are_those_of_what_happened() -> None:
    """An entry knows its moment, also if a clock went back between two replicas."""
    journal = EMPTY.add(NOW, Kind.LOOKUP, "absent").add(NOW - 2.5, Kind.WAIT, "settle", n=2, took=60.0)
    assert [journal.moment(entry) for entry in journal.entries] == [NOW, NOW - 2.5]
    assert journal.since == to_text(NOW)


def test_it_travels_with_the_state() -> None:
    """From copy to copy, and in place of what was there."""
    copy = replace(ENVELOPE, journal=full(3)).write({names.JOURNAL: "forged", "x-note": 1})
    assert copy[names.JOURNAL] == full(3).text()
    assert Envelope.read(copy, redelivered=False, now=NOW).journal == full(3)


def test_a_sender_s_journal_is_no_state() -> None:
    """Alone it makes no repeat, is not believed, and is not passed on."""
    first = Envelope.read({names.JOURNAL: full(3).text()}, redelivered=False, now=NOW)
    assert first == Envelope(0, 0, 1, 0, 0, NOW, None, is_repeat=False, is_redelivered=False)
    again = Envelope.read({names.JOURNAL: full(3).text()}, redelivered=True, now=NOW)
    assert [entry.did for entry in again.journal.entries] == [Kind.REDELIVERED]
    assert names.JOURNAL not in first.write({names.JOURNAL: "forged"})


GOOD = {"since": "2026-11-01T08:00:00.000Z", "entries": [{"at": 0.0, "did": "look"}]}


@pytest.mark.parametrize(
    "text",
    [
        *(None, 5, True, b"{}", [], {}, "", "x", "null", "[]", "{}", "[" * LIMIT, "9" * LIMIT, "\ud800", "\x00"),
        json.dumps(GOOD | {"since": "yesterday"}),
        json.dumps(GOOD | {"since": "0001-01-01T00:00:00Z"}),
        json.dumps(GOOD | {"since": "9999-12-31T00:00:00Z"}),
        json.dumps(GOOD | {"dropped": -1}),
        json.dumps(GOOD | {"entries": [{"at": 0.0, "did": "paint"}]}),
        json.dumps(GOOD | {"entries": [{"at": "0", "did": "look"}]}),
        json.dumps(GOOD | {"entries": [{"at": float("nan"), "did": "look"}]}),
        json.dumps(GOOD | {"entries": [{"at": 1e300, "did": "look"}]}),
        json.dumps(GOOD | {"entries": [{"at": 0.0, "did": "look", "got": "\x1b[2J"}]}),
        json.dumps(GOOD | {"entries": [{"at": 0.0, "did": "look", "got": "<b>" * 99}]}),
        json.dumps(GOOD | {"entries": [{"at": 0.0, "did": "look"}] * (ENTRIES + 1)}),
        json.dumps(GOOD) + " " * LIMIT,
    ],
)
def test_what_is_no_journal_is_dropped(text: object) -> None:
    """It is not read, no state depends on it, and the next copy is without it."""
    assert Journal.read(json.dumps(GOOD)) is not None
    assert Journal.read(text) is None
    plain = ENVELOPE.write({})
    read = Envelope.read(plain | {names.JOURNAL: text}, redelivered=False, now=NOW)
    assert read == Envelope.read(plain, redelivered=False, now=NOW)
    assert names.JOURNAL not in read.write({names.JOURNAL: text})


def test_what_is_added_later_does_not_hide_the_rest() -> None:
    """A reader of today reads a journal that knows more."""
    entry = {"at": 0.0, "did": "look", "got": "absent", "later": 1}
    read = Journal.read(json.dumps(GOOD | {"later": [], "entries": [entry]}))
    assert read is not None
    assert read.entries[0].got == "absent"

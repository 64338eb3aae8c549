"""Timeline of a parked request as text."""

from schemas import names
from schemas.journal import EMPTY, Journal, Kind
from tests.unit.cli.parked.parked_messages import HEADERS, JOURNAL, JOURNAL_TEXTS, JOURNAL_TIME, parked_request
from worker.cli.parked.timeline import render_steps, render_timeline, timeline_of_parked


def test_parked_show_has_the_same_timeline() -> None:
    """The parking is one line, from the journal."""
    parked = JOURNAL.add(JOURNAL_TIME + 60, Kind.PARKED, "exhausted", code="DCS.5000")
    text = render_steps(timeline_of_parked(parked_request(headers={**HEADERS, names.JOURNAL: parked.text()})))
    assert [line.split("  ")[-1] for line in text.splitlines()[2:]] == [*JOURNAL_TEXTS, "parked: exhausted (DCS.5000)"]


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

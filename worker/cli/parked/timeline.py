"""Timeline of one request, read from an event, a parked request or a request in a retry queue, and its text form."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from schemas import names
from schemas.client import Event
from schemas.event import MigrationSucceeded
from schemas.journal import EMPTY, FIRST, Entry, Journal, Kind
from schemas.timestamp import from_text, to_text
from worker.cli.common import exact_duration, format_table, printable
from worker.cli.parked.request import ParkedRequest

_LABEL_WIDTH: Final = 14


@dataclass(frozen=True, slots=True)
class TimelineStep:
    """One line of the timeline; `at` in epoch seconds, None if unknown."""

    at: float | None
    text: str
    data: Mapping[str, Any]
    """The line as JSON."""


@dataclass(frozen=True, slots=True)
class RequestTimeline:
    """Identity of a request, its first receipt, its journal and its state."""

    request_id: str | None
    project_id: str | None
    region: str | None
    name: str | None
    received_at: float | None
    journal: Journal | None
    """None: the header is not a valid journal."""
    state: str
    """`succeeded`, `failed`, `parked` or `on its way`."""
    end: TimelineStep | None
    """The last line; None if the journal has it."""

    @classmethod
    def from_event(cls, event: Event, headers: Mapping[str, object]) -> Self:
        """The timeline of the request that an event with these headers answers."""
        succeeded = isinstance(event, MigrationSucceeded)
        return cls(
            event.request_id,
            event.project_id,
            event.region,
            event.name,
            from_text(event.received_at),
            read_journal(headers),
            "succeeded" if succeeded else "failed",
            TimelineStep(
                from_text(event.completed_at),
                describe_end(event),
                {"did": "event", "event": event.model_dump(mode="json")},
            ),
        )

    def steps(self) -> Iterator[TimelineStep]:
        """All lines, oldest first."""
        if self.received_at is not None:
            yield TimelineStep(self.received_at, "received", {"did": "received"})
        if self.journal is None:
            yield TimelineStep(None, "(the journal is not readable)", {"did": "unreadable"})
        else:
            yield from _journal_steps(self.journal)
        if self.end is not None:
            yield self.end

    def as_json(self) -> dict[str, Any]:
        """Identity, state and all lines as JSON."""
        since = self.received_at
        return {
            "request_id": self.request_id,
            "project_id": self.project_id,
            "region": self.region,
            "name": self.name,
            "state": self.state,
            "timeline": [
                {
                    "at": None if step.at is None else to_text(step.at),
                    "after": None if step.at is None or since is None else round(step.at - since, 3),
                    **step.data,
                    "text": step.text,
                }
                for step in self.steps()
            ],
        }


def read_journal(headers: Mapping[str, object]) -> Journal | None:
    """The journal in `headers`; empty if there is none, None if it is invalid."""
    return Journal.read(headers[names.JOURNAL]) if names.JOURNAL in headers else EMPTY


def _journal_steps(journal: Journal) -> Iterator[TimelineStep]:
    for number, entry in enumerate(journal.entries):
        if journal.dropped and number == min(FIRST, len(journal.entries) - 1):
            data = {"did": "dropped", "n": journal.dropped}
            what = "1 entry" if journal.dropped == 1 else f"{journal.dropped:,} entries"
            yield TimelineStep(None, f"({what} omitted)", data)
        data = {name: value for name, value in entry.model_dump(mode="json").items() if name != "at"}
        yield TimelineStep(journal.moment(entry), describe_entry(entry), data)


def describe_end(event: Event) -> str:
    """The final event in one sentence."""
    if isinstance(event, MigrationSucceeded):
        how = "created" if event.resolution == "created" else "adopted, it existed before"
        return f"succeeded: task {event.instance_id} ({how}; {_describe_calls(event)})"
    parked = "; parked, needs an operator" if event.parked else ""
    code = f" ({event.error.error_code})" if event.error and event.error.error_code else ""
    return f"failed: {event.reason.value}{code}: {event.message} ({_describe_calls(event)}){parked}"


def _describe_calls(event: Event) -> str:
    last_answer = f"; last DCS request id: {event.dcs_request_id}" if event.dcs_request_id else ""
    return f"create calls: {event.attempts}{last_answer}"


def timeline_of_parked(request: ParkedRequest, *, is_parked: bool = True) -> RequestTimeline:
    """The timeline of a parked request, or (not `is_parked`) of a request in another queue."""
    headers = request.parked.headers
    # A journal without state headers was not written by a worker.
    journal = EMPTY if names.STATE.isdisjoint(headers) else read_journal(headers)
    ends_with_parking = bool(journal) and journal is not None and journal.entries[-1].did is Kind.PARKED
    end = TimelineStep(request.parked_at, f"parked: {request.reason}", {"did": "parked", "got": request.reason})
    return RequestTimeline(
        request.sender.request_id,
        request.sender.project_id,
        request.sender.region,
        request.sender.name,
        request.envelope.first_received_at or None,
        journal,
        "parked" if is_parked else "on its way",
        end if is_parked and not ends_with_parking else None,
    )


def is_parked(request: ParkedRequest) -> bool:
    """Whether a worker parked the message."""
    return names.PARKED_REASON in request.parked.headers


def render_timeline(timeline: RequestTimeline) -> str:
    """The timeline as text: identity of the request, then its lines."""
    return "\n".join((*_head(timeline), "", render_steps(timeline)))


def render_steps(timeline: RequestTimeline) -> str:
    """The lines of the timeline as a table."""
    since = timeline.received_at
    lines = [
        (
            "" if step.at is None else to_text(step.at),
            "" if step.at is None or since is None else exact_duration(step.at - since),
            step.text,
        )
        for step in timeline.steps()
    ]
    return format_table(("when", "after", "what"), lines, right=("after",))


def _head(timeline: RequestTimeline) -> Iterator[str]:
    yield _line("request", timeline.request_id)
    yield _line("project", f"{timeline.project_id or 'not readable'}, region {timeline.region or 'not readable'}")
    yield _line("task", timeline.name)
    yield _line("state", timeline.state)


def _line(name: str, text: str | None) -> str:
    return f"{name:<{_LABEL_WIDTH}}{printable(text or 'not readable')}"


_EVIDENCE_TEXTS: Final = {
    "never_sent": "not sent",
    "refused": "rejected: no task was created",
    "ambiguous": "result unknown: a task may have been created",
}
"""What the result of a create call proves. The result of a lookup proves nothing about tasks."""
_LOOKUP_TEXTS: Final = {
    "found": "task found",
    "absent": "no task found",
    "several": "several tasks found that may belong to the request",
}
_WAIT_REASONS: Final = {
    "settle": "a create call may still take effect",
    "claimed": "another replica is handling the request",
    "copy": "duplicate message",
    "quarantine": "suspected of crashing workers, handled alone",
    "breaker": "DCS is failing, the circuit breaker is open",
    "turn": "no free permit for a call",
    "throttled": "rate limit of the project reached",
    "credentials": "DCS rejects the credentials",
    "quota": "quota of the project reached",
}


def describe_entry(entry: Entry) -> str:
    """One journal entry as a sentence."""
    return _DESCRIPTIONS[entry.did](entry)


def _create(entry: Entry) -> str:
    evidence = f", {_EVIDENCE_TEXTS.get(entry.evidence, entry.evidence)}" if entry.evidence else ""
    return f"create call {entry.n}: {'task created' if entry.got == 'done' else entry.got}{_call(entry, evidence)}"


def _look(entry: Entry) -> str:
    return f"lookup: {_LOOKUP_TEXTS.get(entry.got, entry.got)}{_call(entry)}"


def _gate(entry: Entry) -> str:
    return f"waited {exact_duration(entry.took)} for the permit of a call"


def _wait(entry: Entry) -> str:
    reason = _WAIT_REASONS.get(entry.got, f"because of {entry.got}")
    return f"waits {exact_duration(entry.took)} in retry queue {entry.n}: {reason}"


def _returned(_: Entry) -> str:
    return "requeued by a replica that was shutting down"


def _redelivered(entry: Entry) -> str:
    count = f"{entry.n} delivery was" if entry.n == 1 else f"{entry.n} deliveries were"
    return f"redelivered: {count} interrupted (worker or connection lost)"


def _parked(entry: Entry) -> str:
    return f"parked: {entry.got}{_code(entry)}"


def _replayed(entry: Entry) -> str:
    return f"replayed by an operator (replay {entry.n})"


def _call(entry: Entry, evidence: str = "") -> str:
    request_id = f", DCS request id {entry.id}" if entry.id else ""
    return f"{_code(entry)} after {exact_duration(entry.took)}{evidence}{request_id}"


def _code(entry: Entry) -> str:
    return f" ({entry.code})" if entry.code else ""


_DESCRIPTIONS: Final[Mapping[Kind, Callable[[Entry], str]]] = {
    Kind.CREATE: _create,
    Kind.LOOK: _look,
    Kind.GATE: _gate,
    Kind.WAIT: _wait,
    Kind.RETURNED: _returned,
    Kind.REDELIVERED: _redelivered,
    Kind.PARKED: _parked,
    Kind.REPLAYED: _replayed,
}

"""What is to be told of one request, whatever it was read from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from schemas import names
from schemas.client import Event
from schemas.event import MigrationSucceeded
from schemas.journal import EMPTY, FIRST, Journal
from schemas.timestamp import from_text, to_text
from worker.cli.parked.journal_text import describe_entry


@dataclass(frozen=True, slots=True)
class TimelineStep:
    """One line of the timeline; `at` in epoch seconds, None if the moment is not known."""

    at: float | None
    text: str
    data: Mapping[str, Any]
    """The same for programs."""


@dataclass(frozen=True, slots=True)
class RequestTimeline:
    """The request, when it first came, what was done for it, and how it stands."""

    request_id: str | None
    project_id: str | None
    region: str | None
    name: str | None
    received_at: float | None
    journal: Journal | None
    """None: there is one that cannot be read."""
    state: str
    """`succeeded`, `failed` or `parked`."""
    end: TimelineStep | None
    """None: the journal ends with it."""

    @classmethod
    def from_event(cls, event: Event, headers: Mapping[str, object]) -> Self:
        """What an event tells, with the headers that it came with."""
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
        """The timeline from the beginning."""
        if self.received_at is not None:
            yield TimelineStep(self.received_at, "received", {"did": "received"})
        if self.journal is None:
            yield TimelineStep(
                None, "(what was done cannot be read: the header holds no journal)", {"did": "unreadable"}
            )
        else:
            yield from _journal_steps(self.journal)
        if self.end is not None:
            yield self.end

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
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
    """The journal in `headers`; empty if there is none, None if it cannot be read."""
    return Journal.read(headers[names.JOURNAL]) if names.JOURNAL in headers else EMPTY


def _journal_steps(journal: Journal) -> Iterator[TimelineStep]:
    for number, entry in enumerate(journal.entries):
        if journal.dropped and number == min(FIRST, len(journal.entries) - 1):
            data = {"did": "dropped", "n": journal.dropped}
            what = "1 entry" if journal.dropped == 1 else f"{journal.dropped:,} entries"
            yield TimelineStep(None, f"({what} left out here, for want of room)", data)
        data = {name: value for name, value in entry.model_dump(mode="json").items() if name != "at"}
        yield TimelineStep(journal.moment(entry), describe_entry(entry), data)


def describe_end(event: Event) -> str:
    """How the request ended."""
    if isinstance(event, MigrationSucceeded):
        how = "created" if event.resolution == "created" else "adopted, it existed already"
        return f"succeeded: task {event.instance_id} ({how}; {_describe_calls(event)})"
    parked = ", and parked for a person" if event.parked else ""
    code = f" ({event.error.error_code})" if event.error and event.error.error_code else ""
    return f"failed: {event.reason.value}{code}: {event.message} ({_describe_calls(event)}){parked}"


def _describe_calls(event: Event) -> str:
    last_answer = f"; DCS request id of the last answer: {event.dcs_request_id}" if event.dcs_request_id else ""
    return f"create calls: {event.attempts}{last_answer}"

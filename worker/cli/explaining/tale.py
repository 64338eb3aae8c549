"""What is to be told of one request, whatever it was read from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from schemas import names
from schemas.client import Event
from schemas.event import MigrationSucceeded
from schemas.journal import EMPTY, FIRST, Journal
from schemas.timestamp import from_text, to_text
from worker.cli.explaining.wording import sentence


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the timeline; `at` in epoch seconds, None if the moment is not known."""

    at: float | None
    text: str
    told: Mapping[str, Any]
    """The same for programs."""


@dataclass(frozen=True, slots=True)
class Tale:
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
    end: Step | None
    """None: the journal ends with it."""

    @classmethod
    def of_event(cls, event: Event, headers: Mapping[str, object]) -> Self:
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
            Step(
                from_text(event.completed_at), ending(event), {"did": "event", "event": event.model_dump(mode="json")}
            ),
        )

    def steps(self) -> Iterator[Step]:
        """The timeline from the beginning."""
        if self.received_at is not None:
            yield Step(self.received_at, "received", {"did": "received"})
        if self.journal is None:
            yield Step(None, "(what was done cannot be read: the header holds no journal)", {"did": "unreadable"})
        else:
            yield from _told(self.journal)
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
                    **step.told,
                    "text": step.text,
                }
                for step in self.steps()
            ],
        }


def read_journal(headers: Mapping[str, object]) -> Journal | None:
    """The journal in `headers`; empty if there is none, None if it cannot be read."""
    return Journal.read(headers[names.JOURNAL]) if names.JOURNAL in headers else EMPTY


def _told(journal: Journal) -> Iterator[Step]:
    for number, entry in enumerate(journal.entries):
        if journal.dropped and number == min(FIRST, len(journal.entries) - 1):
            told = {"did": "dropped", "n": journal.dropped}
            what = "1 entry" if journal.dropped == 1 else f"{journal.dropped:,} entries"
            yield Step(None, f"({what} left out here, for want of room)", told)
        told = {name: value for name, value in entry.model_dump(mode="json").items() if name != "at"}
        yield Step(journal.moment(entry), sentence(entry), told)


def ending(event: Event) -> str:
    """How the request ended."""
    if isinstance(event, MigrationSucceeded):
        how = "created" if event.resolution == "created" else "adopted, it existed already"
        return f"succeeded: task {event.instance_id} ({how}; {_calls(event)})"
    parked = ", and parked for a person" if event.parked else ""
    code = f" ({event.error.error_code})" if event.error and event.error.error_code else ""
    return f"failed: {event.reason.value}{code}: {event.message} ({_calls(event)}){parked}"


def _calls(event: Event) -> str:
    known_as = f"; DCS request id of the last answer: {event.dcs_request_id}" if event.dcs_request_id else ""
    return f"create calls: {event.attempts}{known_as}"

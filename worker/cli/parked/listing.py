"""`parked list` and `show`: parked requests in groups, one by one, or one of them with all that is known."""

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import typer

from schemas import names
from schemas.event import PARKED_REASONS, Reason
from schemas.timestamp import from_text, to_text
from worker.cli.common import EXIT_OK, fail, format_table, print_json, printable, short_duration
from worker.cli.parked.request import NO_MATCH, ParkedRequest, parked_queue, read_with_id, selected_requests, time_text
from worker.cli.parked.selection import Selection
from worker.cli.parked.timeline import identity_lines, label, render_steps, timeline_of_parked
from worker.config import Settings
from worker.policy.migration_request import Key

DRY_RUN_LINES: Final = 20
"""Requests that a dry run prints one by one."""

_REASONS_WITHOUT_TASK: Final = frozenset(PARKED_REASONS - {Reason.UNRESOLVED, Reason.POISON} | {Reason.REJECTED})
"""Reasons of parked requests that are given only when no task exists."""


@dataclass(slots=True)
class RequestCount:
    """Number of messages and of distinct requests, and when the oldest and the newest was parked; keeps no message."""

    messages: int = 0
    keys: set[Key] = field(default_factory=set)
    oldest: float | None = None
    newest: float | None = None

    def add(self, request: ParkedRequest) -> None:
        """Count one message."""
        self.messages += 1
        self.keys.add(request.key)
        if (moment := request.parked_at) is not None:
            self.oldest = moment if self.oldest is None else min(moment, self.oldest)
            self.newest = moment if self.newest is None else max(moment, self.newest)

    def __len__(self) -> int:
        return len(self.keys)

    def __str__(self) -> str:
        copies = f" ({self.messages:,} messages)" if self.messages > len(self) else ""
        return f"{len(self):,}{copies}"


class ParkedGroups:
    """Counts by reason and error code, and in all."""

    def __init__(self) -> None:
        self.total = RequestCount()
        self._groups: defaultdict[tuple[str, str | None], RequestCount] = defaultdict(RequestCount)

    def add(self, request: ParkedRequest) -> None:
        """Count one message."""
        self.total.add(request)
        self._groups[request.reason, request.error_code].add(request)

    def as_json(self) -> dict[str, Any]:
        """All counts, the largest group first."""
        groups = [
            {
                "reason": reason,
                "error_code": error_code,
                "requests": len(count),
                "messages": count.messages,
                "oldest": time_text(count.oldest),
                "newest": time_text(count.newest),
            }
            for (reason, error_code), count in self._sorted()
        ]
        return {"requests": len(self.total), "messages": self.total.messages, "groups": groups}

    def table(self) -> str:
        """A line per group, and one that says how many messages are copies."""
        now = time.time()
        lines = [
            (reason, error_code or "-", f"{len(count):,}", _ago(count.oldest, now), _ago(count.newest, now))
            for (reason, error_code), count in self._sorted()
        ]
        titles = ("reason", "error code", "requests", "oldest", "newest")
        table = format_table(titles, lines, right=titles[2:])
        if (copies := self.total.messages - len(self.total)) > 0:
            table += f"\n\n{self.total.messages:,} messages, {copies:,} of them copies of another parked message."
        return table

    def _sorted(self) -> list[tuple[tuple[str, str | None], RequestCount]]:
        return sorted(self._groups.items(), key=lambda group: -len(group[1]))


def request_table(summaries: Iterable[Mapping[str, Any]]) -> str:
    """A line per message, of what `ParkedRequest.summary` says."""
    now = time.time()
    lines = [
        (row["id"], row["name"] or "-", row["project_id"] or "-", row["reason"], _ago(from_text(row["parked_at"]), now))
        for row in summaries
    ]
    return format_table(("id", "name", "project", "reason", "parked"), lines, right=("parked",))


def _ago(moment: float | None, now: float) -> str:
    return "-" if moment is None else short_duration(now - moment)


async def print_list(settings: Settings, selection: Selection, *, each: bool, as_json: bool) -> int:
    """Print the groups, the largest first, or one line per message; the exit status."""
    groups = ParkedGroups()
    summaries: list[dict[str, Any]] = []
    async with parked_queue(settings) as queue:
        async for batch in selected_requests(queue, settings, selection):
            for request in batch:
                groups.add(request)
                if each:
                    summaries.append(request.summary())
    summaries.sort(key=lambda summary: summary["parked_at"] or "")
    if as_json:
        print_json(groups.as_json() | ({"each": summaries} if each else {}))
    elif not groups.total:
        typer.echo("No request is parked." if selection.is_empty else NO_MATCH)
    else:
        typer.echo(request_table(summaries) if each else groups.table())
    return EXIT_OK


async def print_details(settings: Settings, identity: str, *, as_json: bool) -> int:
    """Print every parked message of the request `identity`; the exit status."""
    async with parked_queue(settings) as queue:
        found = await read_with_id(queue, settings, identity)
    if not found:
        return fail(f"No parked request has the id {identity!r}; `dcs-worker parked list --each` lists all.")
    if as_json:
        print_json([request.record() for request in found])
    else:
        typer.echo("\n\n".join("\n".join(_details(request)) for request in found))
    return EXIT_OK


def _details(request: ParkedRequest) -> Iterator[str]:
    """Identity, timeline, headers (the state among them), properties and body."""
    yield from identity_lines(request.sender)
    why = request.reason + (f" ({request.error_code})" if request.error_code else "")
    if request.parked_at is not None:
        why += f", {to_text(request.parked_at)}, {short_duration(time.time() - request.parked_at)} ago"
    yield label("parked", why)
    if request.parsed is None:
        yield label("invalid", request.invalid_reason)
    yield label("open call", _open_call(request))
    yield ""
    yield render_steps(timeline_of_parked(request))
    record = request.record()
    # The timeline shows the journal; --json prints the header as it is.
    yield from _section("headers", {name: value for name, value in record["headers"].items() if name != names.JOURNAL})
    yield from _section("properties", record["properties"])
    yield ""
    yield "body"
    yield _indented(record["body"])


def _open_call(request: ParkedRequest) -> str:
    """Whether a create call may still be without an answer."""
    last_sent_at = request.envelope.last_sent_at
    if last_sent_at is None:
        return "none: no create call without an answer"
    if request.parked_at is not None and request.reason in _REASONS_WITHOUT_TASK:
        return "none: a look-up after the listing delay found no task"
    if request.parked_at is None:
        return "possible: the broker parked the message, so the last delivery is unknown"
    return f"possible until {to_text(last_sent_at)}: a task may exist"


def _section(title: str, content: Mapping[str, Any]) -> Iterator[str]:
    if content:
        yield ""
        yield title
        yield from (f"  {printable(name)}: {printable(value)}" for name, value in sorted(content.items()))


def _indented(body: Any) -> str:
    text = body if isinstance(body, str) else json.dumps(body, indent=2)
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), indent=2)
    return "\n".join(f"  {printable(line)}" for line in text.splitlines())

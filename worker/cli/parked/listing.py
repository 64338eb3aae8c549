"""`parked list`: number and age of parked requests by reason and error code, or one line per request."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import typer

from schemas import names
from schemas.timestamp import to_text
from worker.cli.common import EXIT_FAILED, EXIT_OK, format_table, printable, short_duration
from worker.cli.parked.request import (
    NO_MATCH,
    ParkedRequest,
    body_of,
    headers_of,
    properties_of,
    read,
    record,
    selected_requests,
)
from worker.cli.parked.selection import Selection
from worker.cli.parked.timeline import render_steps, timeline_of_parked
from worker.config import Settings
from worker.rabbit.shelf import Shelf

GroupKey = tuple[str, str]
"""Reason and error code."""


@dataclass(slots=True)
class ParkedGroup:
    """Number and times (epoch seconds) of the parked requests with one reason and error code."""

    requests: int = 0
    oldest: float | None = None
    newest: float | None = None

    def add(self, parked_at: float | None) -> None:
        """Count one request."""
        self.requests += 1
        if parked_at is not None:
            self.oldest = parked_at if self.oldest is None else min(self.oldest, parked_at)
            self.newest = parked_at if self.newest is None else max(self.newest, parked_at)


async def print_list(queue: Shelf, settings: Settings, selection: Selection, *, each: bool, as_json: bool) -> int:
    """Print the groups, or one line per request; the exit status. Raises ParkedError."""
    groups: dict[GroupKey, ParkedGroup] = {}
    listed: list[ParkedRequest] = []

    def add(request: ParkedRequest) -> None:
        groups.setdefault((request.reason, request.error_code or ""), ParkedGroup()).add(request.parked_at)
        if each:
            listed.append(request)

    await read(queue, settings, selection, add)
    listed.sort(key=lambda request: request.parked_at or 0.0)
    total = sum(group.requests for group in groups.values())
    if as_json:
        typer.echo(json.dumps(_as_json(total, groups, listed if each else None), indent=2))
    elif not total:
        typer.echo("No request is parked." if selection.is_empty else NO_MATCH)
    else:
        typer.echo(_each(listed) if each else _grouped(groups))
    return EXIT_OK


def _as_json(total: int, groups: Mapping[GroupKey, ParkedGroup], listed: list[ParkedRequest] | None) -> dict[str, Any]:
    return {
        "requests": total,
        "groups": [
            {
                "reason": reason,
                "error_code": code or None,
                "requests": group.requests,
                "oldest": None if group.oldest is None else to_text(group.oldest),
                "newest": None if group.newest is None else to_text(group.newest),
            }
            for (reason, code), group in _sorted(groups)
        ],
        **({} if listed is None else {"each": [request.summary() for request in listed]}),
    }


def _sorted(groups: Mapping[GroupKey, ParkedGroup]) -> list[tuple[GroupKey, ParkedGroup]]:
    return sorted(groups.items(), key=lambda item: -item[1].requests)


def _grouped(groups: Mapping[GroupKey, ParkedGroup]) -> str:
    now = time.time()
    titles = ("reason", "error code", "requests", "oldest", "newest")
    lines = [
        (reason, code or "-", f"{group.requests:,}", _ago(group.oldest, now), _ago(group.newest, now))
        for (reason, code), group in _sorted(groups)
    ]
    return format_table(titles, lines, right=("requests", "oldest", "newest"))


def _each(listed: list[ParkedRequest]) -> str:
    now = time.time()
    lines = [
        (
            request.id,
            request.name or "-",
            request.sender.project_id or "-",
            request.reason,
            _ago(request.parked_at, now),
        )
        for request in listed
    ]
    return format_table(("id", "name", "project", "reason", "parked"), lines, right=("parked",))


def _ago(moment: float | None, now: float) -> str:
    return "-" if moment is None else short_duration(now - moment)


_LABEL_WIDTH = 14


async def print_details(queue: Shelf, settings: Settings, identity: str, *, as_json: bool) -> int:
    """Print every parked message of the request `identity`; the exit status. Raises ParkedError."""
    found = await selected_requests(queue, settings, Selection(frozenset((identity,))))
    if not found:
        typer.echo(f"No parked request has the id {identity!r}; `dcs-worker parked list --each` lists all.", err=True)
        return EXIT_FAILED
    if as_json:
        typer.echo(json.dumps([record(request) for request in found], indent=2))
    else:
        typer.echo("\n\n".join("\n".join(_lines(request)) for request in found))
    return EXIT_OK


def _lines(request: ParkedRequest) -> Iterator[str]:
    sender = request.sender
    yield _line("request", sender.request_id or "not readable")
    yield _line("project", f"{sender.project_id or 'not readable'}, region {sender.region or 'not readable'}")
    yield _line("task", request.name or "not readable")
    yield _line("parked", _parked(request))
    if request.parsed is None:
        yield _line("invalid", request.invalid_reason)
    yield ""
    yield from (_line(*step) for step in _steps(request))
    yield ""
    yield render_steps(timeline_of_parked(request))
    # The timeline shows the journal; --json prints the header as it is.
    others = {name: value for name, value in headers_of(request.parked).items() if name != names.JOURNAL}
    yield from _section("headers", others)
    yield from _section("properties", properties_of(request.parked))
    yield ""
    yield "body"
    yield _indented(body_of(request.parked))


def _parked(request: ParkedRequest) -> str:
    why = request.reason + (f" ({request.error_code})" if request.error_code else "")
    if request.parked_at is None:
        return why
    return f"{why}, {to_text(request.parked_at)}, {short_duration(time.time() - request.parked_at)} ago"


def _steps(request: ParkedRequest) -> Iterator[tuple[str, str]]:
    """The state headers in words."""
    envelope = request.envelope
    if envelope.first_received_at:
        yield "received", to_text(envelope.first_received_at)
    yield "deliveries", str(envelope.deliveries)
    if envelope.interruptions:
        yield "interrupted", f"{envelope.interruptions} of the deliveries (worker or connection lost)"
    yield "create calls", str(envelope.attempts)
    yield "retries", f"{envelope.round} of the retry schedule used"
    if envelope.last_sent_at is None:
        yield "open call", "none: no create call without an answer"
    elif request.parked_at is None:
        yield "open call", "possible: the broker parked the message, so the last delivery is unknown"
    else:
        yield "open call", f"possible until {to_text(envelope.last_sent_at)}: a task may exist"
    if envelope.replays:
        yield "replays", str(envelope.replays)


def _section(title: str, content: dict[str, Any]) -> Iterator[str]:
    if content:
        yield ""
        yield title
        yield from (f"  {printable(name)}: {printable(value)}" for name, value in sorted(content.items()))


def _indented(body: Any) -> str:
    text = body if isinstance(body, str) else json.dumps(body, indent=2)
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), indent=2)
    return "\n".join(f"  {printable(line)}" for line in text.splitlines())


def _line(name: str, text: str) -> str:
    return f"{name:<{_LABEL_WIDTH}}{printable(text)}"

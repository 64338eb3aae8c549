"""Output of `parked list`, parked requests by reason and error code or one by one, and of `parked show`."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import typer

from schemas import names
from schemas.timestamp import to_text
from worker.cli.common import EXIT_OK, fail, format_table, print_json, printable, short_duration
from worker.cli.parked.request import NO_MATCH, ParkedRequest, parked_queue, read_selected, read_with_id
from worker.cli.parked.selection import Selection
from worker.cli.parked.timeline import identity_lines, label, render_steps, timeline_of_parked
from worker.config import Settings


@dataclass(slots=True)
class ParkedGroup:
    """Number and times (epoch seconds) of the parked requests with one reason and error code."""

    reason: str
    error_code: str | None
    requests: int = 0
    oldest: float | None = None
    newest: float | None = None

    def add(self, parked_at: float | None) -> None:
        """Count one request."""
        self.requests += 1
        known = [moment for moment in (self.oldest, self.newest, parked_at) if moment is not None]
        self.oldest, self.newest = min(known, default=None), max(known, default=None)

    def as_json(self) -> dict[str, Any]:
        """The group with times as text."""
        return {
            "reason": self.reason,
            "error_code": self.error_code,
            "requests": self.requests,
            "oldest": None if self.oldest is None else to_text(self.oldest),
            "newest": None if self.newest is None else to_text(self.newest),
        }


async def print_list(settings: Settings, selection: Selection, *, each: bool, as_json: bool) -> int:
    """Print the groups, the largest first, or one line per request; the exit status."""
    by_key: dict[tuple[str, str | None], ParkedGroup] = {}
    listed: list[ParkedRequest] = []

    def add(request: ParkedRequest) -> None:
        key = (request.reason, request.error_code)
        by_key.setdefault(key, ParkedGroup(*key)).add(request.parked_at)
        if each:  # else not kept: there may be very many
            listed.append(request)

    async with parked_queue(settings) as queue:
        await read_selected(queue, settings, selection, add)
        groups = sorted(by_key.values(), key=lambda group: -group.requests)
        listed.sort(key=lambda request: request.parked_at or 0.0)
        if as_json:
            content = {
                "requests": sum(group.requests for group in groups),
                "groups": [group.as_json() for group in groups],
            }
            print_json(content | ({"each": [request.summary() for request in listed]} if each else {}))
        elif not groups:
            typer.echo("No request is parked." if selection.is_empty else NO_MATCH)
        else:
            typer.echo(_each(listed) if each else _grouped(groups))
        return EXIT_OK


def _grouped(groups: list[ParkedGroup]) -> str:
    now = time.time()
    titles = ("reason", "error code", "requests", "oldest", "newest")
    lines = [
        (group.reason, group.error_code or "-", f"{group.requests:,}", _ago(group.oldest, now), _ago(group.newest, now))
        for group in groups
    ]
    return format_table(titles, lines, right=("requests", "oldest", "newest"))


def _each(listed: list[ParkedRequest]) -> str:
    now = time.time()
    lines = [
        (item.id, item.name or "-", item.sender.project_id or "-", item.reason, _ago(item.parked_at, now))
        for item in listed
    ]
    return format_table(("id", "name", "project", "reason", "parked"), lines, right=("parked",))


def _ago(moment: float | None, now: float) -> str:
    return "-" if moment is None else short_duration(now - moment)


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
    """Identity, state, timeline, headers, properties and body."""
    yield from identity_lines(request.sender)
    why = request.reason + (f" ({request.error_code})" if request.error_code else "")
    if request.parked_at is not None:
        why += f", {to_text(request.parked_at)}, {short_duration(time.time() - request.parked_at)} ago"
    yield label("parked", why)
    if request.parsed is None:
        yield label("invalid", request.invalid_reason)
    yield ""
    yield from _state(request)
    yield ""
    yield render_steps(timeline_of_parked(request))
    record = request.record()
    # The timeline shows the journal; --json prints the header as it is.
    yield from _section("headers", {name: value for name, value in record["headers"].items() if name != names.JOURNAL})
    yield from _section("properties", record["properties"])
    yield ""
    yield "body"
    yield _indented(record["body"])


def _state(request: ParkedRequest) -> Iterator[str]:
    """The state headers in words."""
    envelope = request.envelope
    if envelope.first_received_at:
        yield label("received", to_text(envelope.first_received_at))
    yield label("deliveries", str(envelope.deliveries))
    if envelope.interruptions:
        yield label("interrupted", f"{envelope.interruptions} of the deliveries (worker or connection lost)")
    yield label("create calls", str(envelope.attempts))
    yield label("retries", f"{envelope.round} of the retry schedule used")
    if envelope.last_sent_at is None:
        open_call = "none: no create call without an answer"
    elif request.parked_at is None:
        open_call = "possible: the broker parked the message, so the last delivery is unknown"
    else:
        open_call = f"possible until {to_text(envelope.last_sent_at)}: a task may exist"
    yield label("open call", open_call)
    if envelope.replays:
        yield label("replays", str(envelope.replays))


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

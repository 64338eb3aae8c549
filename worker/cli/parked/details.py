"""`parked show`: identity, state, timeline, headers, properties and body of one parked request."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import typer

from schemas import names
from schemas.timestamp import to_text
from worker.cli.common import EXIT_FAILED, EXIT_OK, printable, short_duration
from worker.cli.parked.parked_queue import selected_requests
from worker.cli.parked.record import body_of, headers_of, properties_of, record
from worker.cli.parked.request import ParkedRequest
from worker.cli.parked.selection import Selection
from worker.cli.parked.timeline import render_steps, timeline_of_parked
from worker.config import Settings
from worker.rabbit.tools.parked_queue import ParkedQueue

_LABEL_WIDTH = 14


async def print_details(queue: ParkedQueue, settings: Settings, identity: str, *, as_json: bool) -> int:
    """Print every parked message of the request `identity`; the exit status. Raises BrokerError."""
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

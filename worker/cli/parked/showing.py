"""`parked show`: everything about one parked request."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import typer

from schemas import names
from schemas.timestamp import to_text
from worker.cli.common import DONE, FAILED, safe, span
from worker.cli.explaining.parked import of_story
from worker.cli.explaining.timeline import timeline
from worker.cli.parked.reading import stories
from worker.cli.parked.record import body_of, headers_of, properties_of, record
from worker.cli.parked.selection import Selection
from worker.cli.parked.story import Story
from worker.config import Settings
from worker.rabbit.shelf import Shelf

_LEFT = 14


async def show(shelf: Shelf, settings: Settings, identity: str, *, as_json: bool) -> int:
    """Print every parked message of the request `identity`; the exit status. Raises ParkedError."""
    found = await stories(shelf, settings, Selection(frozenset((identity,))))
    if not found:
        typer.echo(f"No parked request is called {identity!r}: `dcs-worker parked list --each` shows them.", err=True)
        return FAILED
    if as_json:
        typer.echo(json.dumps([record(story) for story in found], indent=2))
    else:
        typer.echo("\n\n".join("\n".join(_lines(story)) for story in found))
    return DONE


def _lines(story: Story) -> Iterator[str]:
    sender = story.sender
    yield _line("request", sender.request_id or "not readable")
    yield _line("project", f"{sender.project_id or 'not readable'}, region {sender.region or 'not readable'}")
    yield _line("task", story.name or "not readable")
    yield _line("parked", _parked(story))
    if story.order is None:
        yield _line("no request", story.fault)
    yield ""
    yield from (_line(*step) for step in _steps(story))
    yield ""
    yield timeline(of_story(story))
    # The journal is what the timeline tells; --json has it as it came.
    others = {name: value for name, value in headers_of(story.parked).items() if name != names.JOURNAL}
    yield from _section("headers", others)
    yield from _section("properties", properties_of(story.parked))
    yield ""
    yield "body"
    yield _indented(body_of(story.parked))


def _parked(story: Story) -> str:
    why = story.reason + (f" ({story.error_code})" if story.error_code else "")
    if story.parked_at is None:
        return why
    return f"{why}, {to_text(story.parked_at)}, {span(time.time() - story.parked_at)} ago"


def _steps(story: Story) -> Iterator[tuple[str, str]]:
    """What the envelope tells of the time before."""
    envelope = story.envelope
    if envelope.first_received_at:
        yield "received", to_text(envelope.first_received_at)
    interrupted = f", {envelope.interruptions} of them cut short" if envelope.interruptions else ""
    yield "deliveries", f"{envelope.deliveries}{interrupted}"
    yield "creates", f"{envelope.attempts}, {envelope.round} places of the retry schedule used"
    if envelope.last_sent_at is None:
        yield "in flight", "certainly never"
    elif story.parked_at is None:
        yield "in flight", "perhaps: the broker parked it, nobody knows"
    else:
        yield "in flight", f"perhaps until {to_text(envelope.last_sent_at)}: a task may exist"
    if envelope.replays:
        yield "replays", str(envelope.replays)


def _section(title: str, content: dict[str, Any]) -> Iterator[str]:
    if content:
        yield ""
        yield title
        yield from (f"  {safe(name)}: {safe(value)}" for name, value in sorted(content.items()))


def _indented(body: Any) -> str:
    text = body if isinstance(body, str) else json.dumps(body, indent=2)
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), indent=2)
    return "\n".join(f"  {safe(line)}" for line in text.splitlines())


def _line(name: str, text: str) -> str:
    return f"{name:<{_LEFT}}{safe(text)}"

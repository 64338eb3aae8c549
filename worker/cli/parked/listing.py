"""`parked list`, `show`, `export` and `drop`: parked requests in groups, one by one, in a file; and their deletion."""

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import typer

from schemas import names
from schemas.timestamp import to_text
from worker.cli.common import EXIT_OK, fail, format_table, print_json, printable, short_duration
from worker.cli.parked.request import (
    NO_MATCH,
    ParkedRequest,
    open_parked_records,
    parked_queue,
    read_selected,
    read_with_id,
    selected_requests,
    time_text,
)
from worker.cli.parked.selection import Selection
from worker.cli.parked.timeline import identity_lines, label, render_steps, timeline_of_parked
from worker.config import Settings


class ParkedGroup(NamedTuple):
    """Number and times (epoch seconds) of the parked requests with one reason and error code."""

    reason: str
    error_code: str | None
    requests: int
    oldest: float | None
    newest: float | None


async def print_list(settings: Settings, selection: Selection, *, each: bool, as_json: bool) -> int:
    """Print the groups, the largest first, or one line per request; the exit status."""
    times_by_key: defaultdict[tuple[str, str | None], list[float | None]] = defaultdict(list)
    listed: list[ParkedRequest] = []

    def add(request: ParkedRequest) -> None:
        times_by_key[request.reason, request.error_code].append(request.parked_at)
        if each:  # else not kept: there may be very many
            listed.append(request)

    async with parked_queue(settings) as queue:
        await read_selected(queue, settings, selection, add)
        groups = [_group(key, times) for key, times in times_by_key.items()]
        groups.sort(key=lambda group: -group.requests)
        listed.sort(key=lambda request: request.parked_at or 0.0)
        if as_json:
            rows = [
                group._asdict() | {"oldest": time_text(group.oldest), "newest": time_text(group.newest)}
                for group in groups
            ]
            content = {"requests": sum(group.requests for group in groups), "groups": rows}
            print_json(content | ({"each": [request.summary() for request in listed]} if each else {}))
        elif not groups:
            typer.echo("No request is parked." if selection.is_empty else NO_MATCH)
        else:
            typer.echo(_each(listed) if each else _grouped(groups))
        return EXIT_OK


def _group(key: tuple[str, str | None], times: list[float | None]) -> ParkedGroup:
    known = [moment for moment in times if moment is not None]
    return ParkedGroup(*key, len(times), min(known, default=None), max(known, default=None))


def _grouped(groups: list[ParkedGroup]) -> str:
    now = time.time()
    titles = ("reason", "error code", "requests", "oldest", "newest")
    lines = [
        (reason, error_code or "-", f"{requests:,}", _ago(oldest, now), _ago(newest, now))
        for reason, error_code, requests, oldest, newest in groups
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


async def export_requests(settings: Settings, selection: Selection, path: Path | None) -> int:
    """Write one line per request to the new file `path`, or to standard output; the exit status."""
    count = 0

    def write(request: ParkedRequest) -> None:
        nonlocal count
        stream.write(_line(request))
        count += 1

    async with parked_queue(settings) as queue:
        with nullcontext(sys.stdout) if path is None else _new_file(path) as stream:
            await read_selected(queue, settings, selection, write)
        if path is None:
            sys.stdout.flush()
        else:
            typer.echo(f"{count:,} requests are in {path}; they stay parked.")
    return EXIT_OK


async def drop_requests(
    settings: Settings, selection: Selection, path: Path | None, *, yes: bool, as_json: bool
) -> int:
    """Write one line per request to a new file, then delete the requests; the exit status.

    Without `yes` only print them.
    """
    path = path or Path(time.strftime("parked-dropped-%Y%m%dT%H%M%SZ.jsonl", time.gmtime()))
    async with parked_queue(settings) as queue, AsyncExitStack() as stack:
        found = await selected_requests(queue, settings, selection)
        if found and yes:
            forget = await stack.enter_async_context(open_parked_records(settings))
            with _new_file(path) as stream:
                stream.writelines(map(_line, found))
            for request in found:
                await forget(request)
                await queue.drop(request.parked)
            await queue.release()
        if as_json:
            file = str(path) if found and yes else None
            print_json({"dropped": yes, "file": file, "requests": [request.summary() for request in found]})
        elif not found:
            typer.echo(NO_MATCH)
        elif yes:
            typer.echo(f"{len(found):,} requests were deleted and are saved in {path}.")
        else:
            lines = [(request.id, request.name or "-", request.reason) for request in found]
            typer.echo(format_table(("id", "name", "reason"), lines))
            typer.echo(f"\nDry run: nothing was deleted. --yes deletes these {len(found):,} requests.")
    return selection.exit_status(len(found))


def _line(request: ParkedRequest) -> str:
    return json.dumps(request.record()) + "\n"


@contextmanager
def _new_file(path: Path) -> Iterator[TextIO]:
    """A new file that is synchronised to disk at the end and removed after an error.

    If the file exists, the command ends.
    """
    try:
        stream = path.open("x", encoding="utf-8")
    except FileExistsError:
        sentence = f"The file {path} exists and is not overwritten; choose another one with --to."
        raise typer.Exit(fail(sentence)) from None
    with stream:
        try:
            yield stream
        except BaseException:
            path.unlink()
            raise
        stream.flush()
        os.fsync(stream.fileno())
    folder = os.open(path.absolute().parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

"""`parked export` writes parked requests to a file; `parked drop` does the same and then deletes them."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TextIO

import typer

from worker.cli.common import EXIT_OK, fail, format_table, print_json
from worker.cli.parked.request import (
    NO_MATCH,
    ParkedRequest,
    open_parked_records,
    parked_queue,
    read_selected,
    selected_requests,
)
from worker.cli.parked.selection import Selection
from worker.config import Settings


async def export_requests(settings: Settings, selection: Selection, path: Path | None) -> int:
    """Write one line per request to the new file `path`, or to standard output; the exit status."""
    count = 0

    def write(request: ParkedRequest) -> None:
        nonlocal count
        stream.write(_line(request))
        count += 1

    try:
        async with parked_queue(settings) as queue:
            with nullcontext(sys.stdout) if path is None else _new_file(path) as stream:
                await read_selected(queue, settings, selection, write)
            if path is None:
                sys.stdout.flush()
            else:
                typer.echo(f"{count:,} requests are in {path}; they stay parked.")
    except FileExistsError:
        return _fail_on_existing(path)
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
            try:
                with _new_file(path) as stream:
                    stream.writelines(map(_line, found))
            except FileExistsError:
                return _fail_on_existing(path)
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
    """A new file that is synchronised to disk at the end and removed after an error. Raises FileExistsError."""
    with path.open("x", encoding="utf-8") as stream:
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


def _fail_on_existing(path: Path | None) -> int:
    return fail(f"The file {path} exists and is not overwritten; choose another one with --to.")

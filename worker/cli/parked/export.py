"""`parked export` writes parked requests to a file; `parked drop` does the same and then deletes them."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import typer

from worker.cli.common import EXIT_FAILED, EXIT_OK, format_table
from worker.cli.parked.parked_queue import NO_MATCH, read, selected_requests
from worker.cli.parked.record import record_line
from worker.cli.parked.request import ParkedRequest
from worker.cli.parked.selection import Selection
from worker.config import Settings
from worker.rabbit.tools.parked_queue import ParkedQueue


async def export_requests(queue: ParkedQueue, settings: Settings, selection: Selection, path: Path | None) -> int:
    """Write one line per request to the new file `path`, or to standard output; the exit status. Raises BrokerError."""
    count = 0

    def write(request: ParkedRequest) -> None:
        nonlocal count
        stream.write(record_line(request))
        count += 1

    try:
        with _new_file(path) if path else _standard_output() as stream:
            await read(queue, settings, selection, write)
    except FileExistsError:
        return _report_existing_file(path)
    if path is not None:
        typer.echo(f"{count:,} requests are in {path}; they stay parked.")
    return EXIT_OK


async def drop_requests(
    queue: ParkedQueue, settings: Settings, selection: Selection, path: Path | None, *, yes: bool, as_json: bool
) -> int:
    """Write one line per request to a new file, then delete the requests; the exit status. Raises BrokerError.

    Without `yes` only print them.
    """
    found = await selected_requests(queue, settings, selection)
    path = path or Path(time.strftime("parked-dropped-%Y%m%dT%H%M%SZ.jsonl", time.gmtime()))
    if found and yes:
        try:
            with _new_file(path) as stream:
                stream.writelines(record_line(request) for request in found)
        except FileExistsError:
            return _report_existing_file(path)
        for request in found:
            await queue.drop(request.parked)
        await queue.release()
    _print_result(found, path, yes=yes, as_json=as_json)
    return selection.exit_status(len(found))


def _print_result(found: list[ParkedRequest], path: Path, *, yes: bool, as_json: bool) -> None:
    if as_json:
        file = str(path) if found and yes else None
        dropped = {"dropped": bool(yes), "file": file, "requests": [request.summary() for request in found]}
        typer.echo(json.dumps(dropped, indent=2))
    elif not found:
        typer.echo(NO_MATCH)
    elif yes:
        typer.echo(f"{len(found):,} requests were deleted and are saved in {path}.")
    else:
        typer.echo(
            format_table(
                ("id", "name", "reason"), [(request.id, request.name or "-", request.reason) for request in found]
            )
        )
        typer.echo(f"\nDry run: nothing was deleted. --yes deletes these {len(found):,} requests.")


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


@contextmanager
def _standard_output() -> Iterator[TextIO]:
    yield sys.stdout
    sys.stdout.flush()


def _report_existing_file(path: Path | None) -> int:
    typer.echo(f"The file {path} exists and is not overwritten; choose another one with --to.", err=True)
    return EXIT_FAILED

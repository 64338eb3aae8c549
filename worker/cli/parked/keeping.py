"""`parked export` and `parked drop`: parked requests written to where they are safe, and then perhaps taken away."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import typer

from worker.cli.common import DONE, FAILED, rows
from worker.cli.parked.reading import read, stories
from worker.cli.parked.record import line
from worker.cli.parked.selection import Selection
from worker.cli.parked.story import Story
from worker.config import Settings
from worker.rabbit.shelf import Shelf


async def export(shelf: Shelf, settings: Settings, selection: Selection, path: Path | None) -> int:
    """Write a line per request to a new file `path`, else to standard output; the exit status. Raises ParkedError."""
    count = 0

    def write(story: Story) -> None:
        nonlocal count
        stream.write(line(story))
        count += 1

    try:
        with _written(path) if path else _printed() as stream:
            await read(shelf, settings, selection, write)
    except FileExistsError:
        return _refuse(path)
    if path is not None:
        typer.echo(f"{count:,} requests are in {path}; they stay parked.")
    return DONE


async def drop(
    shelf: Shelf, settings: Settings, selection: Selection, path: Path | None, *, yes: bool, as_json: bool
) -> int:
    """Write a line per request to a new file, then take the requests away; the exit status. Raises ParkedError.

    Without `yes` only say which.
    """
    found = await stories(shelf, settings, selection)
    path = path or Path(time.strftime("parked-dropped-%Y%m%dT%H%M%SZ.jsonl", time.gmtime()))
    if found and yes:
        try:
            with _written(path) as stream:
                stream.writelines(line(story) for story in found)
        except FileExistsError:
            return _refuse(path)
        for story in found:
            await shelf.drop(story.parked)
        await shelf.release()
    _tell(found, path, yes=yes, as_json=as_json)
    return selection.status(len(found))


def _tell(found: list[Story], path: Path, *, yes: bool, as_json: bool) -> None:
    if as_json:
        file = str(path) if found and yes else None
        dropped = {"dropped": bool(yes), "file": file, "requests": [story.summary() for story in found]}
        typer.echo(json.dumps(dropped, indent=2))
    elif not found:
        typer.echo("No parked request is like that.")
    elif yes:
        typer.echo(f"{len(found):,} requests were dropped. All of them are in {path}.")
    else:
        typer.echo(rows(("id", "name", "reason"), [(story.id, story.name or "-", story.reason) for story in found]))
        typer.echo(f"\nNothing was dropped: --yes drops these {len(found):,} requests.")


@contextmanager
def _written(path: Path) -> Iterator[TextIO]:
    """A new file, safe on disk at the end; none is left if it could not be filled. Raises FileExistsError."""
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
def _printed() -> Iterator[TextIO]:
    yield sys.stdout
    sys.stdout.flush()


def _refuse(path: Path | None) -> int:
    typer.echo(f"The file {path} is there already, and is not written over: name another one with --to.", err=True)
    return FAILED

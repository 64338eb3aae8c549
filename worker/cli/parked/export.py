"""`parked export` and `drop`: parked requests as JSON Lines, in a file or on standard output; and their deletion."""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import typer

from worker.cli.common import OutputError, print_json
from worker.cli.parked.listing import DRY_RUN_LINES, ParkedGroups, RequestCount, request_table
from worker.cli.parked.request import NO_MATCH, ParkedRequest, open_parked_records, parked_queue, selected_requests
from worker.cli.parked.selection import Selection
from worker.config import Settings

STANDARD_OUTPUT: Final = Path("-")


@dataclass(slots=True)
class RequestFile:
    """New file, made when it gets its first line, or standard output (`-`); one line per request."""

    path: Path
    _stream: TextIO | None = None

    def __str__(self) -> str:
        return "standard output" if self.is_standard_output else f"the file {self.path}"

    @property
    def is_standard_output(self) -> bool:
        """Whether the lines go to standard output."""
        return self.path == STANDARD_OUTPUT

    def write(self, requests: Sequence[ParkedRequest]) -> None:
        """Write these requests. When it returns, they are on the disk. Raises OutputError."""
        if not requests:
            return
        try:
            stream = self._open() if self._stream is None else self._stream
            stream.writelines(json.dumps(request.record()) + "\n" for request in requests)
            stream.flush()
            if not self.is_standard_output:
                os.fsync(stream.fileno())
        except FileExistsError:
            sentence = f"The file {self.path} exists and is not overwritten; choose another one with --to."
            raise OutputError(sentence) from None
        except OSError as error:
            advice = "" if self.is_standard_output else " Choose another one with --to; --to - is standard output."
            raise OutputError(f"Cannot write to {self}: {error.strerror or error}.{advice}") from None

    def _open(self) -> TextIO:
        if self.is_standard_output:
            return sys.stdout
        self._stream = self.path.open("x", encoding="utf-8")
        folder = os.open(self.path.absolute().parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return self._stream

    def close(self, *, is_needed: bool) -> None:
        """Close the file, and remove it unless it is needed."""
        if self._stream is None:
            return
        with suppress(OSError):  # what matters has been synchronised
            self._stream.close()
        if not is_needed:
            self.path.unlink(missing_ok=True)


async def export_requests(settings: Settings, selection: Selection, path: Path | None) -> int:
    """Write one line per message to the new file `path`, or to standard output; the exit status."""
    file, written, is_complete = RequestFile(path or STANDARD_OUTPUT), RequestCount(), False
    try:
        async with parked_queue(settings) as queue:
            async for batch in selected_requests(queue, settings, selection):
                file.write(batch)
                for request in batch:
                    written.add(request)
        is_complete = True
    finally:
        file.close(is_needed=is_complete)
    if not written:
        typer.echo(NO_MATCH, err=True)
    elif not file.is_standard_output:
        typer.echo(f"{written} requests are in {path}; they stay parked.")
    return selection.exit_status(len(written))


@dataclass(slots=True)
class Drop:
    """One deletion: says at the end what was deleted, also after an error or a signal."""

    settings: Settings
    file: RequestFile
    as_json: bool

    async def run(self, selection: Selection, *, yes: bool) -> int:
        """Write one line per message to the file, then delete it; without `yes` only print what it would be."""
        found, dropped, summaries = ParkedGroups(), RequestCount(), list[dict[str, Any]]()
        is_complete = False
        try:
            async with AsyncExitStack() as stack:
                forget = await stack.enter_async_context(open_parked_records(self.settings)) if yes else None
                queue = await stack.enter_async_context(parked_queue(self.settings))
                async for batch in selected_requests(queue, self.settings, selection):
                    for request in batch:
                        found.add(request)
                        if self.as_json or found.total.messages <= DRY_RUN_LINES:
                            summaries.append(request.summary())
                    if forget is None:
                        continue
                    self.file.write(batch)
                    for request in batch:
                        await forget(request)
                        await queue.drop(request.parked)
                        dropped.add(request)
            is_complete = True
        finally:
            self.file.close(is_needed=bool(dropped))
            if dropped and not is_complete:
                typer.echo(f"{dropped} requests were deleted and are saved in {self.file}.", err=True)
        self._print_result(found, summaries, yes=yes)
        return selection.exit_status(len(found.total))

    def _print_result(self, found: ParkedGroups, summaries: Sequence[dict[str, Any]], *, yes: bool) -> None:
        to_errors = self.file.is_standard_output
        if self.as_json:
            saved = str(self.file.path) if found.total and yes else None
            print_json({"dropped": yes, "file": saved, "requests": summaries})
        elif not found.total:
            typer.echo(NO_MATCH, err=to_errors)
        elif yes:
            typer.echo(f"{found.total} requests were deleted and are saved in {self.file}.", err=to_errors)
        else:
            typer.echo(f"{found.table()}\n\n{request_table(summaries)}", err=to_errors)
            if (more := found.total.messages - len(summaries)) > 0:
                typer.echo(f"... and {more:,} more: `dcs-worker parked list --each` prints all.", err=to_errors)
            typer.echo(f"\nDry run: nothing was deleted. --yes deletes these {found.total} requests.", err=to_errors)

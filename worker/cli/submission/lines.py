"""Requests out of a file: JSON Lines, CSV, or one JSON object; read piece by piece, however long the file is."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final, Protocol, TextIO

from schemas.request import Request, Task
from worker.cli.submission import Format

TASK: Final = tuple(Task.model_fields)
COLUMNS: Final = (*(field for field in Request.model_fields if field != "task"), *TASK)
"""The columns that a CSV file may have, in any order."""


@dataclass(frozen=True, slots=True)
class Line:
    """One request as a message body; `number` is the line of the file that it begins on, from 1."""

    number: int
    body: bytes
    fault: str = ""
    """Why there is no body."""


def read(stream: BinaryIO, form: Format, max_bytes: int) -> Iterator[Line]:
    """The requests in `stream`; what is longer than `max_bytes` is cut there, and so too long for whoever checks it."""
    return _READERS[form](stream, max_bytes)


def body(fields: Mapping[str, str]) -> bytes:
    """The message body of a request whose fields, those of its task too, have these values; empty ones are left out."""
    given = {name: value for name, value in fields.items() if value}
    task = {name: given.pop(name) for name in TASK if name in given}
    return json.dumps({**given, "task": task}, ensure_ascii=False).encode()


def _json_lines(stream: BinaryIO, max_bytes: int) -> Iterator[Line]:
    number = 0
    while text := stream.readline(max_bytes + 2):
        number += 1
        rest = text
        while not rest.endswith(b"\n") and (rest := stream.readline(max_bytes)):
            pass
        if text.strip():
            yield Line(number, text.removeprefix(_MARK).strip() if number == 1 else text.strip())


_MARK: Final = b"\xef\xbb\xbf"
"""The byte order mark that some programs begin a UTF-8 file with."""


def _json(stream: BinaryIO, max_bytes: int) -> Iterator[Line]:
    yield Line(1, stream.read(max_bytes + 1).removeprefix(_MARK).strip())


def _csv(stream: BinaryIO, max_bytes: int) -> Iterator[Line]:
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    rows = csv.reader(_bounded(text, max_bytes), strict=True)
    try:
        titles = [title.strip() for title in next(rows, [])]
        if (fault := _titles_fault(titles)) is not None:
            yield Line(1, b"", fault)
            return
        yield from _rows(rows, titles)
    except csv.Error as error:
        yield Line(rows.line_num, b"", f"is no CSV: {error}")
    except UnicodeDecodeError:
        yield Line(rows.line_num + 1, b"", "is no UTF-8, here or soon after")
    finally:
        text.detach()


def _bounded(text: TextIO, most: int) -> Iterator[str]:
    while line := text.readline(most):
        if len(line) == most and not line.endswith("\n"):
            raise csv.Error(f"a line is longer than {most:,} characters")
        yield line


def _titles_fault(titles: list[str]) -> str | None:
    if not titles:
        return f"is missing: the first line names the columns, of {', '.join(COLUMNS)}"
    wrong = [repr(title) for title in titles if title not in COLUMNS]
    if wrong:
        return f"{', '.join(wrong)} is no column: there are {', '.join(COLUMNS)}"
    twice = [title for title in COLUMNS if titles.count(title) > 1]
    return f"{', '.join(twice)} is there twice" if twice else None


class _Rows(Protocol):
    """A csv.reader, which has no public name."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...


def _rows(rows: "_Rows", titles: list[str]) -> Iterator[Line]:
    begin = rows.line_num + 1
    for cells in rows:
        if len(cells) > len(titles):
            yield Line(begin, b"", f"has {len(cells)} cells, but there are {len(titles)} columns")
        elif any(cells):
            yield Line(begin, body(dict(zip(titles, cells, strict=False))))
        begin = rows.line_num + 1


_READERS: Final[Mapping[Format, Callable[[BinaryIO, int], Iterator[Line]]]] = {
    "jsonl": _json_lines,
    "csv": _csv,
    "json": _json,
}

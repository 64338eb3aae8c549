"""Requests in a file of JSON Lines, CSV or JSON, as message bodies. JSON Lines and CSV are read line by line."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO, Final, TextIO

from schemas.request import Request, Task
from schemas.unreadable import BYTE_ORDER_MARK
from worker.cli.submit import Format

TASK_FIELDS: Final = tuple(Task.model_fields)
COLUMNS: Final = (*(field for field in Request.model_fields if field != "task"), *TASK_FIELDS)
"""The columns that a CSV file can have, in any order."""
DELIMITERS: Final = ",;\t"
"""Between the cells of a CSV file: where the comma is the decimal sign, spreadsheets write semicolons."""


@dataclass(frozen=True, slots=True)
class InputLine:
    """One request as a message body; `number` is its first line in the file, from 1."""

    number: int
    body: bytes
    problem: str = ""
    """Why the line has no body."""
    element: str = ""
    """Prefix of a field in a JSON array, whose requests can be in one line: `[3].`."""
    is_flat: bool = False
    """The fields of its task are columns or options like the others."""

    def field(self, name: str) -> str:
        """A request's field as this line has it."""
        return name.removeprefix("task.") if self.is_flat else self.element + name


def read(stream: BinaryIO, format_: Format, max_bytes: int) -> Iterator[InputLine]:
    """The requests in `stream`. A longer line is cut above `max_bytes`, so that validation rejects it as too long."""
    return _READERS[format_](stream, max_bytes)


def body(fields: Mapping[str, str]) -> bytes:
    """The message body of a request with these fields, including those of its task; empty values are left out."""
    given = {name: value for name, value in fields.items() if value}
    task = {name: given.pop(name) for name in TASK_FIELDS if name in given}
    # What a terminal wrote in another encoding stays as it is, and is refused with the rest of the body.
    return json.dumps({**given, "task": task}, ensure_ascii=False).encode(errors="surrogateescape")


def _json_lines(stream: BinaryIO, max_bytes: int) -> Iterator[InputLine]:
    number, is_first = 0, True
    while text := stream.readline(max_bytes + 2):
        number += 1
        content = text.removeprefix(BYTE_ORDER_MARK if number == 1 else b"").strip()
        if is_first and content.startswith(b"["):
            yield from _json_array(b"\n" * (number - 1) + text + stream.read())
            return
        rest = text
        while not rest.endswith(b"\n") and (rest := stream.readline(max_bytes)):
            pass
        if content:
            yield InputLine(number, content)
            is_first = False


def _json(stream: BinaryIO, max_bytes: int) -> Iterator[InputLine]:
    text = stream.read(max_bytes + 1)
    content = text.removeprefix(BYTE_ORDER_MARK).strip()
    if content.startswith(b"["):
        yield from _json_array(text + stream.read())
    else:
        yield InputLine(1, content)


def _json_array(content: bytes) -> Iterator[InputLine]:
    """The elements of an array, each as it is written: decoded and encoded again, a repeated field would be lost."""
    decoder = json.JSONDecoder()
    try:
        text = content.decode("utf-8-sig")
        count = len(decoder.decode(text))
    except (ValueError, RecursionError) as error:
        yield InputLine(getattr(error, "lineno", 1), b"", f"not a valid JSON array: {error}")
        return
    line, counted, end = 1, 0, text.index("[") + 1
    for index in range(count):
        while text[end] in " \t\r\n,":
            end += 1
        line, counted, start = line + text.count("\n", counted, end), end, end
        _, end = decoder.raw_decode(text, start)
        yield InputLine(line, text[start:end].encode(), element=f"[{index}].")


def _csv(stream: BinaryIO, max_bytes: int) -> Iterator[InputLine]:
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    first_line = 1
    try:
        rows = csv.reader(*_with_delimiter(_limited_lines(text, max_bytes)), strict=True)
        titles = _titles(next(filter(any, map(_trimmed, rows)), []))
        if (problem := _header_problem(titles)) is not None:
            yield InputLine(first_line, b"", problem)
            return
        columns = [title.lower() for title in titles]
        first_line = rows.line_num + 1
        for cells in map(_trimmed, rows):
            if any(cells[len(columns) :]):
                yield InputLine(first_line, b"", f"{len(cells)} values for {len(columns)} columns")
            elif any(cells):
                yield InputLine(first_line, body(dict(zip(columns, cells, strict=False))), is_flat=True)
            first_line = rows.line_num + 1
    except csv.Error as error:
        yield InputLine(first_line, b"", f"not valid CSV: {error}")
    except UnicodeDecodeError:
        yield InputLine(first_line, b"", "not valid UTF-8, here or soon after: save the table as CSV in UTF-8")
    finally:
        text.detach()


def _limited_lines(text: TextIO, max_length: int) -> Iterator[str]:
    while line := text.readline(max_length):
        if len(line) == max_length and not line.endswith("\n"):
            raise csv.Error(f"a line is longer than {max_length:,} characters")
        yield line


def _with_delimiter(lines: Iterator[str]) -> tuple[Iterator[str], csv.Dialect]:
    """All the lines, and the dialect with the delimiter that is most frequent in the header, which holds no text."""
    top: list[str] = []
    for line in lines:
        # Spreadsheets name their delimiter in a line above the header.
        is_blank = line.lower().startswith(("sep=", '"sep=')) or not line.strip(f'" \r\n{DELIMITERS}')
        top.append("\n" if is_blank else line)
        if not is_blank:
            break
    dialect = csv.excel()
    dialect.delimiter = max(DELIMITERS, key="".join(top).count)
    dialect.skipinitialspace = True  # a quote is one behind blanks too
    return chain(top, lines), dialect


def _trimmed(cells: list[str]) -> list[str]:
    return [cell.strip() for cell in cells]


def _titles(cells: list[str]) -> list[str]:
    """The cells of a header, without empty ones at the right."""
    return cells[: max((number for number, cell in enumerate(cells, 1) if cell), default=0)]


def _header_problem(titles: list[str]) -> str | None:
    if not titles:
        return f"header line missing; allowed columns: {', '.join(COLUMNS)}"
    unknown = [repr(title) for title in titles if title.lower() not in COLUMNS]
    if unknown:
        return f"unknown column {', '.join(unknown)}; allowed columns: {', '.join(COLUMNS)}"
    columns = [title.lower() for title in titles]
    repeated = [title for title in COLUMNS if columns.count(title) > 1]
    return f"duplicate column {', '.join(repeated)}" if repeated else None


_READERS: Final[Mapping[Format, Callable[[BinaryIO, int], Iterator[InputLine]]]] = {
    "jsonl": _json_lines,
    "csv": _csv,
    "json": _json,
}

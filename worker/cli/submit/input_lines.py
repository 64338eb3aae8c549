"""Readers of request files: JSON Lines, CSV or one JSON object, read line by line, so that a file can be large."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO, Final, Protocol, TextIO

from schemas import identity
from schemas.client import encode, identified
from schemas.request import InvalidRequestError, Request, Task, parse
from worker.cli.submit import Format
from worker.cli.submit.submission import Ledger

TASK_FIELDS: Final = tuple(Task.model_fields)
COLUMNS: Final = (*(field for field in Request.model_fields if field != "task"), *TASK_FIELDS)
"""The columns that a CSV file can have, in any order."""


@dataclass(frozen=True, slots=True)
class InputLine:
    """One request as a message body; `number` is its first line in the file, from 1."""

    number: int
    body: bytes
    problem: str = ""
    """Why the line has no body."""


def read(stream: BinaryIO, format_: Format, max_bytes: int) -> Iterator[InputLine]:
    """The requests in `stream`. A longer line is cut above `max_bytes`, so that validation rejects it as too long."""
    return _READERS[format_](stream, max_bytes)


def body(fields: Mapping[str, str]) -> bytes:
    """The message body of a request with these fields, including those of its task; empty values are left out."""
    given = {name: value for name, value in fields.items() if value}
    task = {name: given.pop(name) for name in TASK_FIELDS if name in given}
    return json.dumps({**given, "task": task}, ensure_ascii=False).encode()


def _json_lines(stream: BinaryIO, max_bytes: int) -> Iterator[InputLine]:
    number = 0
    while text := stream.readline(max_bytes + 2):
        number += 1
        rest = text
        while not rest.endswith(b"\n") and (rest := stream.readline(max_bytes)):
            pass
        if text.strip():
            yield InputLine(number, text.removeprefix(_BYTE_ORDER_MARK).strip() if number == 1 else text.strip())


_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""Some programs write a byte order mark at the start of a UTF-8 file."""


def _json(stream: BinaryIO, max_bytes: int) -> Iterator[InputLine]:
    yield InputLine(1, stream.read(max_bytes + 1).removeprefix(_BYTE_ORDER_MARK).strip())


def _csv(stream: BinaryIO, max_bytes: int) -> Iterator[InputLine]:
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    rows = csv.reader(_limited_lines(text, max_bytes), strict=True)
    try:
        titles = [title.strip() for title in next(rows, [])]
        if (problem := _header_problem(titles)) is not None:
            yield InputLine(1, b"", problem)
            return
        yield from _rows(rows, titles)
    except csv.Error as error:
        yield InputLine(rows.line_num, b"", f"not valid CSV: {error}")
    except UnicodeDecodeError:
        yield InputLine(rows.line_num + 1, b"", "not valid UTF-8, here or soon after")
    finally:
        text.detach()


def _limited_lines(text: TextIO, max_length: int) -> Iterator[str]:
    while line := text.readline(max_length):
        if len(line) == max_length and not line.endswith("\n"):
            raise csv.Error(f"a line is longer than {max_length:,} characters")
        yield line


def _header_problem(titles: list[str]) -> str | None:
    if not titles:
        return f"header line missing; allowed columns: {', '.join(COLUMNS)}"
    unknown = [repr(title) for title in titles if title not in COLUMNS]
    if unknown:
        return f"unknown column {', '.join(unknown)}; allowed columns: {', '.join(COLUMNS)}"
    repeated = [title for title in COLUMNS if titles.count(title) > 1]
    return f"duplicate column {', '.join(repeated)}" if repeated else None


class _CsvReader(Protocol):
    """The type of csv.reader, which has no public name."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...


def _rows(rows: "_CsvReader", titles: list[str]) -> Iterator[InputLine]:
    first_line = rows.line_num + 1
    for cells in rows:
        if len(cells) > len(titles):
            yield InputLine(first_line, b"", f"{len(cells)} values for {len(titles)} columns")
        elif any(cells):
            yield InputLine(first_line, body(dict(zip(titles, cells, strict=False))))
        first_line = rows.line_num + 1


_READERS: Final[Mapping[Format, Callable[[BinaryIO, int], Iterator[InputLine]]]] = {
    "jsonl": _json_lines,
    "csv": _csv,
    "json": _json,
}


MAX_REPORTED: Final = 20


@dataclass(frozen=True, slots=True)
class LineError:
    """One problem of an input line."""

    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line:,}: {self.field} {self.message}".replace("  ", " ")


@dataclass(slots=True)
class InputValidator:
    """Validates lines and counts them. Keeps only the first MAX_REPORTED errors."""

    ledger: Ledger
    max_bytes: int
    region: str
    """The worker's default region."""
    lines: int = 0
    invalid_lines: int = 0
    """Lines with errors."""
    errors: list[LineError] = field(default_factory=list)

    def add_lines(self, lines: Iterable[InputLine]) -> None:
        """Validate each line, and add the valid requests to the ledger."""
        for line in lines:
            self.lines += 1
            if found := self._check(line):
                self.invalid_lines += 1
                self.errors += found[: MAX_REPORTED - len(self.errors)]

    def as_json(self) -> dict[str, Any]:
        """Counts and errors as JSON."""
        return {
            "lines": self.lines,
            "requests": self.ledger.requests,
            "repeats": self.ledger.repeats,
            "faulty": self.invalid_lines,
            "flaws": [asdict(error) for error in self.errors],
        }

    def _check(self, line: InputLine) -> list[LineError]:
        if line.problem:
            return [LineError(line.number, "", line.problem)]
        try:
            request = identified(parse(line.body, max_bytes=self.max_bytes), self.region)
            body = encode(request)
            if len(body) > self.max_bytes:
                parse(body, max_bytes=self.max_bytes)  # raises the error: too large with the derived id
        except InvalidRequestError as error:
            return [LineError(line.number, violation.field, violation.message) for violation in error.violations]
        return self._add(line.number, request, body)

    def _add(self, number: int, request: Request, body: bytes) -> list[LineError]:
        assert request.request_id is not None
        fingerprint = identity.fingerprint(request.region or self.region, request.task)
        added = self.ledger.add(number, request.project_id, request.request_id, fingerprint, body)
        if isinstance(added, int):
            return [LineError(number, "request_id", f"already used in line {added:,} for a different task")]
        return []

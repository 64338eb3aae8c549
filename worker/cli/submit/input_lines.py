"""Requests of a submission: read from a file, validated before anything is sent, and stored with their outcomes.

A file has JSON Lines, CSV or one JSON object, and can be large: it is read line by line into a temporary database.
"""

import csv
import io
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO, Final, TextIO

from schemas import identity
from schemas.client import encode, identified
from schemas.request import InvalidRequestError, Request, Task, parse
from worker.cli.submit import Format

TASK_FIELDS: Final = tuple(Task.model_fields)
COLUMNS: Final = (*(field for field in Request.model_fields if field != "task"), *TASK_FIELDS)
"""The columns that a CSV file can have, in any order."""
MAX_REPORTED: Final = 20
PAGE_ROWS: Final = 500
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""Some programs write a byte order mark at the start of a UTF-8 file."""
_SCHEMA: Final = """
CREATE TABLE requests (
    line INTEGER PRIMARY KEY, project TEXT, request TEXT, fingerprint TEXT, body BLOB,
    succeeded INTEGER, outcome TEXT, said TEXT,
    UNIQUE (project, request)
)
"""


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
        first_line = rows.line_num + 1
        for cells in rows:
            if len(cells) > len(titles):
                yield InputLine(first_line, b"", f"{len(cells)} values for {len(titles)} columns")
            elif any(cells):
                yield InputLine(first_line, body(dict(zip(titles, cells, strict=False))))
            first_line = rows.line_num + 1
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


_READERS: Final[Mapping[Format, Callable[[BinaryIO, int], Iterator[InputLine]]]] = {
    "jsonl": _json_lines,
    "csv": _csv,
    "json": _json,
}


@dataclass(frozen=True, slots=True)
class SubmittedRequest:
    """One request: its line in the file, its id, its outcome and the message of the outcome, if known."""

    line: int
    request_id: str
    outcome: str | None
    said: str | None


class Ledger:
    """The requests of one submission, by project and request id; deleted when closed."""

    def __init__(self) -> None:
        # With the empty name SQLite uses a temporary file, and keeps it in memory while it is small.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(_SCHEMA)
        self._database.execute("BEGIN")
        self.requests = 0
        self.answered = 0
        self.repeats = 0

    def __repr__(self) -> str:
        return f"<Ledger: {self.requests} requests>"

    def close(self) -> None:
        """Delete the database."""
        self._database.close()

    def add(self, line: int, project_id: str, request_id: str, fingerprint: str, body: bytes) -> int | None:
        """Add a request, unless it repeats an earlier one. Returns the line that has the same id for another task."""
        try:
            self._database.execute(
                "INSERT INTO requests (line, project, request, fingerprint, body) VALUES (?, ?, ?, ?, ?)",
                (line, project_id, request_id, fingerprint, body),
            )
        except sqlite3.IntegrityError:
            earlier, same = self._database.execute(
                "SELECT line, fingerprint = ? FROM requests WHERE project = ? AND request = ?",
                (fingerprint, project_id, request_id),
            ).fetchone()
            self.repeats += same
            return None if same else int(earlier)
        self.requests += 1
        return None

    def bodies(self) -> Iterator[bytes]:
        """The message bodies in the order of the file."""
        line = -1
        while rows := self._database.execute(
            "SELECT line, body FROM requests WHERE line > ? ORDER BY line LIMIT ?", (line, PAGE_ROWS)
        ).fetchall():
            yield from (body for _, body in rows)
            line = rows[-1][0]

    def record_outcome(
        self, project_id: str | None, request_id: str | None, outcome: str, said: str | None, *, succeeded: bool
    ) -> None:
        """Store the first outcome of a request; ignored for other requests and for a second outcome."""
        updated = self._database.execute(
            "UPDATE requests SET outcome = ?, said = ?, succeeded = ? "
            "WHERE project = ? AND request = ? AND outcome IS NULL",
            (outcome, said, succeeded, project_id, request_id),
        )
        self.answered += updated.rowcount

    def outcomes(self) -> dict[str, int]:
        """Number of requests by outcome, the most frequent first."""
        query = "SELECT outcome, COUNT(*) FROM requests WHERE outcome IS NOT NULL GROUP BY outcome ORDER BY 2 DESC"
        return dict(self._database.execute(query).fetchall())

    def unsuccessful(self) -> Iterator[SubmittedRequest]:
        """Requests that failed or have no outcome, in the order of the file."""
        query = "SELECT line, request, outcome, said FROM requests WHERE succeeded IS NOT 1 ORDER BY line"
        return (SubmittedRequest(*row) for row in self._database.execute(query))


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
        assert request.request_id is not None
        fingerprint = identity.fingerprint(request.region or self.region, request.task)
        earlier = self.ledger.add(line.number, request.project_id, request.request_id, fingerprint, body)
        if earlier is None:
            return []
        return [LineError(line.number, "request_id", f"already used in line {earlier:,} for a different task")]

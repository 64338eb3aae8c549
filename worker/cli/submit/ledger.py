"""Requests of a submission, validated before anything is sent, and kept with their outcomes in a temporary database."""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from schemas import identity
from schemas.client import Event, encode, identified
from schemas.event import MigrationSucceeded
from schemas.request import InvalidRequestError, parse
from worker.cli.submit.input_lines import InputLine

MAX_REPORTED: Final = 20
PAGE_ROWS: Final = 500
_SCHEMA: Final = """
CREATE TABLE requests (
    position INTEGER PRIMARY KEY, line INTEGER, project TEXT, request TEXT, fingerprint TEXT, body BLOB,
    succeeded INTEGER, outcome TEXT, said TEXT, instance TEXT, code TEXT,
    UNIQUE (project, request)
)
"""


@dataclass(frozen=True, slots=True)
class SubmittedRequest:
    """One request: its line in the file, its id, and its outcome if known: the resolution or the reason."""

    line: int
    request_id: str
    outcome: str | None
    said: str | None
    """The message of a failure."""
    instance_id: str | None = None
    resolution: str | None = None
    reason: str | None = None
    error_code: str | None = None


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
        position = -1
        while rows := self._database.execute(
            "SELECT position, body FROM requests WHERE position > ? ORDER BY position LIMIT ?", (position, PAGE_ROWS)
        ).fetchall():
            yield from (body for _, body in rows)
            position = rows[-1][0]

    def record_outcome(self, event: Event) -> None:
        """Store the first outcome of a request; ignored for other requests and for a second outcome."""
        if isinstance(event, MigrationSucceeded):
            outcome, message, instance_id, code = str(event.resolution), None, event.instance_id, None
        else:
            outcome, message, instance_id = str(event.reason), event.message, None
            code = event.error.error_code if event.error else None
        updated = self._database.execute(
            "UPDATE requests SET succeeded = ?, outcome = ?, said = ?, instance = ?, code = ? "
            "WHERE project = ? AND request = ? AND outcome IS NULL",
            (instance_id is not None, outcome, message, instance_id, code, event.project_id, event.request_id),
        )
        self.answered += updated.rowcount

    def outcomes(self) -> dict[str, int]:
        """Number of requests by outcome, the most frequent first."""
        query = "SELECT outcome, COUNT(*) FROM requests WHERE outcome IS NOT NULL GROUP BY outcome ORDER BY 2 DESC"
        return dict(self._database.execute(query).fetchall())

    def results(self) -> Iterator[SubmittedRequest]:
        """Every request with its outcome, in the order of the file."""
        query = (
            "SELECT line, request, outcome, said, instance, CASE succeeded WHEN 1 THEN outcome END, "
            "CASE succeeded WHEN 0 THEN outcome END, code FROM requests ORDER BY position"
        )
        return (SubmittedRequest(*row) for row in self._database.execute(query))

    def unsuccessful(self) -> Iterator[SubmittedRequest]:
        """Requests that failed or have no outcome, in the order of the file."""
        return (result for result in self.results() if result.resolution is None)


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
            return [
                LineError(line.number, line.field(violation.field), violation.message) for violation in error.violations
            ]
        assert request.request_id is not None
        fingerprint = identity.fingerprint(request.region or self.region, request.task)
        earlier = self.ledger.add(line.number, request.project_id, request.request_id, fingerprint, body)
        if earlier is None:
            return []
        problem = f"already used in line {earlier:,} for a different task"
        return [LineError(line.number, line.field("request_id"), problem)]

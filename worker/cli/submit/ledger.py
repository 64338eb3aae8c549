"""Temporary SQLite database of the requests of one submission and their outcomes, so that memory use stays flat."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

PAGE_ROWS: Final = 500

_SCHEMA: Final = """
CREATE TABLE requests (
    line INTEGER PRIMARY KEY, project TEXT, request TEXT, fingerprint TEXT, body BLOB,
    succeeded INTEGER, outcome TEXT, said TEXT,
    UNIQUE (project, request)
)
"""


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

    def add(
        self, line: int, project_id: str, request_id: str, fingerprint: str, body: bytes
    ) -> int | Literal["new", "repeat"]:
        """Add a request. Returns a line number if that line has the same id for another task."""
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
            return "repeat" if same else int(earlier)
        self.requests += 1
        return "new"

    def bodies(self) -> Iterator[bytes]:
        """The message bodies in the order of the file."""
        line = -1
        while rows := self._database.execute(
            "SELECT line, body FROM requests WHERE line > ? ORDER BY line LIMIT ?", (line, PAGE_ROWS)
        ).fetchall():
            yield from (body for _, body in rows)
            line = rows[-1][0]

    def record_outcome(
        self, project_id: str, request_id: str, outcome: str, said: str | None, *, succeeded: bool
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

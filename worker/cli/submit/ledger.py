"""The requests of one submission and what became of each, kept on disk: memory stays flat however many there are."""

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
    """One request: the line of the file that it is on, its id, and what became of it, if that is known."""

    line: int
    request_id: str
    outcome: str | None
    said: str | None


class Ledger:
    """A database of its own, which is gone when it is closed."""

    def __init__(self) -> None:
        # The empty name: a temporary file, held in memory only as long as it is small.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(_SCHEMA)
        self._database.execute("BEGIN")
        self.requests = 0
        self.answered = 0
        self.repeats = 0

    def __repr__(self) -> str:
        return f"<Ledger: {self.requests} requests>"

    def close(self) -> None:
        """Forget everything."""
        self._database.close()

    def add(
        self, line: int, project_id: str, request_id: str, fingerprint: str, body: bytes
    ) -> int | Literal["new", "repeat"]:
        """Enter a request. A line number: that of an earlier request of the same id for another task."""
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
        """The message body of each request, in the order of the file."""
        line = -1
        while rows := self._database.execute(
            "SELECT line, body FROM requests WHERE line > ? ORDER BY line LIMIT ?", (line, PAGE_ROWS)
        ).fetchall():
            yield from (body for _, body in rows)
            line = rows[-1][0]

    def record_outcome(
        self, project_id: str, request_id: str, outcome: str, said: str | None, *, succeeded: bool
    ) -> None:
        """A request has its outcome; the first one counts, and what is not of this submission does not."""
        updated = self._database.execute(
            "UPDATE requests SET outcome = ?, said = ?, succeeded = ? "
            "WHERE project = ? AND request = ? AND outcome IS NULL",
            (outcome, said, succeeded, project_id, request_id),
        )
        self.answered += updated.rowcount

    def outcomes(self) -> dict[str, int]:
        """How many requests had which outcome, the most frequent first."""
        query = "SELECT outcome, COUNT(*) FROM requests WHERE outcome IS NOT NULL GROUP BY outcome ORDER BY 2 DESC"
        return dict(self._database.execute(query).fetchall())

    def unsuccessful(self) -> Iterator[SubmittedRequest]:
        """Requests that failed or have no outcome, in the order of the file."""
        query = "SELECT line, request, outcome, said FROM requests WHERE succeeded IS NOT 1 ORDER BY line"
        return (SubmittedRequest(*row) for row in self._database.execute(query))

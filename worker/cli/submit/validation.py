"""Validation of every input line before anything is sent; valid requests go to the ledger."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from schemas import identity
from schemas.client import encode, identified
from schemas.request import InvalidRequestError, Request, parse
from worker.cli.submit.file_formats import InputLine
from worker.cli.submit.ledger import Ledger

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

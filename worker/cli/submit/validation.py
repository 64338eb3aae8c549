"""Every line checked, and entered only if it is a request: before anything is sent."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from schemas import identity
from schemas.client import encode, identified
from schemas.request import InvalidRequestError, Request, parse
from worker.cli.submit.file_formats import InputLine
from worker.cli.submit.ledger import Ledger

MAX_REPORTED: Final = 20


@dataclass(frozen=True, slots=True)
class LineError:
    """What is wrong with a line."""

    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line:,}: {self.field} {self.message}".replace("  ", " ")


@dataclass(slots=True)
class InputValidator:
    """What came in. Only the first NAMED_AT_MOST flaws are kept."""

    ledger: Ledger
    max_bytes: int
    region: str
    """The worker's default region."""
    lines: int = 0
    invalid_lines: int = 0
    """Lines with flaws."""
    errors: list[LineError] = field(default_factory=list)

    def add_lines(self, lines: Iterable[InputLine]) -> None:
        """Check each line, and enter what is a request."""
        for line in lines:
            self.lines += 1
            if found := self._check(line):
                self.invalid_lines += 1
                self.errors += found[: MAX_REPORTED - len(self.errors)]

    def as_json(self) -> dict[str, Any]:
        """The verdict for programs."""
        return {
            "lines": self.lines,
            "requests": self.ledger.requests,
            "repeats": self.ledger.repeats,
            "faulty": self.invalid_lines,
            "flaws": [{"line": one.line, "field": one.field, "message": one.message} for one in self.errors],
        }

    def _check(self, line: InputLine) -> list[LineError]:
        if line.problem:
            return [LineError(line.number, "", line.problem)]
        try:
            request = identified(parse(line.body, max_bytes=self.max_bytes), self.region)
            body = encode(request)
            if len(body) > self.max_bytes:
                parse(body, max_bytes=self.max_bytes)  # with its id it is too large, and that is said
        except InvalidRequestError as error:
            return [LineError(line.number, one.field, one.message) for one in error.violations]
        return self._add(line.number, request, body)

    def _add(self, number: int, request: Request, body: bytes) -> list[LineError]:
        assert request.request_id is not None
        fingerprint = identity.fingerprint(request.region or self.region, request.task)
        added = self.ledger.add(number, request.project_id, request.request_id, fingerprint, body)
        if isinstance(added, int):
            return [LineError(number, "request_id", f"is that of line {added:,}, for a different task")]
        return []

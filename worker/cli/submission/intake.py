"""Every line checked, and entered only if it is a request: before anything is sent."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from schemas import identity
from schemas.client import encode, identified
from schemas.request import InvalidRequestError, Request, parse
from worker.cli.submission.ledger import Ledger
from worker.cli.submission.lines import Line

NAMED_AT_MOST: Final = 20


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with a line."""

    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line:,}: {self.field} {self.message}".replace("  ", " ")


@dataclass(slots=True)
class Intake:
    """What came in. Only the first NAMED_AT_MOST flaws are kept."""

    ledger: Ledger
    max_bytes: int
    region: str
    """The worker's default region."""
    lines: int = 0
    faulty: int = 0
    """Lines with flaws."""
    flaws: list[Flaw] = field(default_factory=list)

    def take(self, lines: Iterable[Line]) -> None:
        """Check each line, and enter what is a request."""
        for line in lines:
            self.lines += 1
            if found := self._flaws(line):
                self.faulty += 1
                self.flaws += found[: NAMED_AT_MOST - len(self.flaws)]

    def as_json(self) -> dict[str, Any]:
        """The verdict for programs."""
        return {
            "lines": self.lines,
            "requests": self.ledger.requests,
            "repeats": self.ledger.repeats,
            "faulty": self.faulty,
            "flaws": [{"line": one.line, "field": one.field, "message": one.message} for one in self.flaws],
        }

    def _flaws(self, line: Line) -> list[Flaw]:
        if line.fault:
            return [Flaw(line.number, "", line.fault)]
        try:
            request = identified(parse(line.body, max_bytes=self.max_bytes), self.region)
            body = encode(request)
            if len(body) > self.max_bytes:
                parse(body, max_bytes=self.max_bytes)  # with its id it is too large, and that is said
        except InvalidRequestError as error:
            return [Flaw(line.number, one.field, one.message) for one in error.violations]
        return self._enter(line.number, request, body)

    def _enter(self, number: int, request: Request, body: bytes) -> list[Flaw]:
        assert request.request_id is not None
        fingerprint = identity.fingerprint(request.region or self.region, request.task)
        entered = self.ledger.add(number, request.project_id, request.request_id, fingerprint, body)
        if isinstance(entered, int):
            return [Flaw(number, "request_id", f"is that of line {entered:,}, for a different task")]
        return []

"""Why a message is no request: one violation per broken rule, and as much of its sender as could be read."""

from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

TEXT_LIMIT: Final = 1024
VIOLATIONS_LISTED: Final = 20


class Violation(BaseModel):
    """One broken rule of a request: which field, and what the rule is."""

    model_config = ConfigDict(frozen=True)

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Sender:
    """As much of a broken request's identity as could be read."""

    request_id: str | None = None
    project_id: str | None = None
    region: str | None = None
    name: str | None = None


class InvalidRequestError(Exception):
    """The body is no request; `is_addressed` tells whether it was a JSON object at all."""

    def __init__(self, violations: tuple[Violation, ...], sender: Sender, *, is_addressed: bool) -> None:
        super().__init__("; ".join(f"{v.field}: {v.message}" for v in violations))
        self.violations = violations
        self.sender = sender
        self.is_addressed = is_addressed


TIME: Final = "must be an RFC 3339 time with an offset, like 2026-12-01T00:00:00Z"
REPEATED: Final = "is given more than once"

_SENTENCES: Final = {
    "missing": "is missing",
    "extra_forbidden": "is not a known field",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "string_too_long": f"must be at most {TEXT_LIMIT:,} characters long",
    "model_type": "must be an object",
}
_PATTERNS: Final = {
    "request_id": "must be 1 to 128 of A-Z a-z 0-9 . _ : - and begin with a letter or digit",
    "project_id": "must be 1 to 64 of A-Z a-z 0-9 _ -",
    "region": "must be the name of a configured region, never an address",
}


def violations(error: ValidationError) -> tuple[Violation, ...]:
    """What `error` says, in sentences that never echo a value; at most VIOLATIONS_LISTED of them."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    listed = ((detail, _field(detail["loc"])) for detail in details[:VIOLATIONS_LISTED])
    return tuple(Violation(field=field, message=_sentence(detail, field)) for detail, field in listed)


def _sentence(error: ErrorDetails, field: str) -> str:
    kind = error["type"]
    if kind == "string_pattern_mismatch":
        return _PATTERNS[field]
    if kind.startswith("datetime"):
        return TIME
    return _SENTENCES.get(kind, error["msg"])


def _field(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:64] for part in location) or "body"

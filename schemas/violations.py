"""What the models refuse, in a sender's words: which field breaks which rule, and which name was probably meant."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

TEXT_LIMIT: Final = 1024
VIOLATIONS_LISTED: Final = 20
SIMILARITY: Final = 0.75
NAME_CHARACTERS: Final = 64
"""Of an unknown name that are repeated."""

TIME: Final = "must be an RFC 3339 time with an offset, like 2026-12-01T00:00:00Z"

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
    "task.name": "must not begin or end with a blank, nor contain control characters",
}


Location = tuple[int | str, ...]
"""Path of a field, as pydantic has it."""
BrokenRule = tuple[str, str]
"""A field, and the rule that it breaks."""


def describe(error: ValidationError, fields: Sequence[str], task_fields: Sequence[str]) -> list[BrokenRule]:
    """Field and sentence of what `error` says, never a value; at most VIOLATIONS_LISTED of them.

    `fields` and `task_fields` are the known names.
    """
    details = error.errors(include_url=False, include_context=False, include_input=False)
    unknown = [detail["loc"] for detail in details if detail["type"] == "extra_forbidden"][:VIOLATIONS_LISTED]
    inside = {spelled(field): f"task.{field}" for field in task_fields}
    known = inside | {spelled(field): field for field in fields}
    meant = {location: _similar(location, known) for location in unknown}
    # A field that is only misspelt is not missing as well.
    said = [detail for detail in details if detail["type"] != "missing" or _field(detail["loc"]) not in meant.values()]
    listed = ((detail, _field(detail["loc"])) for detail in said[:VIOLATIONS_LISTED])
    return [(field, _sentence(detail, field) + _question(detail["loc"], meant)) for detail, field in listed]


def _similar(location: Location, known: dict[str, str]) -> str | None:
    name = spelled(str(location[-1]))
    return next((known[match] for match in get_close_matches(name, known, 1, SIMILARITY)), None)


def spelled(name: str) -> str:
    """`vpcid` for vpc_id, vpcId and VPC-ID."""
    return "".join(filter(str.isalnum, name[:NAME_CHARACTERS])).lower()


def _question(location: Location, meant: dict[Location, str | None]) -> str:
    if (field := meant.get(location)) is None:
        return ""
    inner = field.removeprefix("task.")
    if len(location) == 1 or inner != field:
        return f"; did you mean {field if len(location) == 1 else inner}?"
    return f"; did you mean {field}, outside of task?"


def _sentence(error: ErrorDetails, field: str) -> str:
    kind = error["type"]
    if kind == "string_pattern_mismatch":
        return _PATTERNS[field]
    if kind.startswith("datetime"):
        return TIME
    return _SENTENCES.get(kind, error["msg"])


def _field(location: Location) -> str:
    return ".".join(str(part)[:NAME_CHARACTERS] for part in location) or "body"

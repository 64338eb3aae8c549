"""The request message: what an upstream service puts on the requests queue."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails, PydanticCustomError, from_json

from schemas.timestamp import PATTERN, is_time

TEXT_LIMIT: Final = 1024
VIOLATIONS_LISTED: Final = 20

REQUEST_ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
PROJECT_ID_PATTERN: Final = r"^[A-Za-z0-9_-]{1,64}$"
REGION_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{0,63}$"

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

Text = Annotated[str, Field(min_length=1, max_length=TEXT_LIMIT)]
RequestId = Annotated[str, Field(pattern=REQUEST_ID_PATTERN)]
ProjectId = Annotated[str, Field(pattern=PROJECT_ID_PATTERN)]
Region = Annotated[str, Field(pattern=REGION_PATTERN)]


def _rfc3339(value: object) -> object:
    if isinstance(value, datetime) or (isinstance(value, str) and is_time(value)):
        return value
    raise PydanticCustomError("datetime_form", TIME)


Time = Annotated[
    AwareDatetime,
    Field(strict=False),  # the form is checked before, after which pydantic no longer knows that it came as JSON
    BeforeValidator(_rfc3339),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": PATTERN}),
]

# An optional field may be left out, but null is no value of it: pydantic sees the plain type
# (a default is not validated), the type checker sees that it may be None.
if TYPE_CHECKING:
    MaybeText = str | None
    MaybeRequestId = str | None
    MaybeRegion = str | None
    MaybeTime = datetime | None
else:
    MaybeText, MaybeRequestId, MaybeRegion, MaybeTime = Text, RequestId, Region, Time


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


def _left_out(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


class _Strict(BaseModel):
    # An unknown field is refused: a typing error must not be dropped silently.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class Task(_Strict):
    """The DCS request body (Creating an Online Data Migration Task, table 2)."""

    name: Text = Field(description="Name of the online migration task.")
    description: MaybeText = Field(
        default=None,
        description="Description of the online migration task.",
        json_schema_extra=_left_out,
    )
    vpc_id: Text = Field(description="VPC ID.")
    subnet_id: Text = Field(description="Subnet network ID.")
    security_group_id: Text = Field(description="ID of the security group to which the instance belongs.")


class Request(_Strict):
    """One order to create one online data migration task."""

    request_id: MaybeRequestId = Field(
        default=None,
        description="Identity within the project. Two messages with one id are one request.",
        json_schema_extra=_left_out,
    )
    project_id: ProjectId = Field(description="Project in which the task is created.")
    region: MaybeRegion = Field(
        default=None,
        description="One of the regions that the worker is configured for; its default region if missing.",
        json_schema_extra=_left_out,
    )
    not_after: MaybeTime = Field(
        default=None,
        description="After this instant no task is created any more (RFC 3339, with offset).",
        json_schema_extra=_left_out,
    )
    task: Task


def parse(body: bytes, *, max_bytes: int) -> Request:
    """Read a request from the bytes of a message body.

    Raises InvalidRequestError naming each broken field and rule; never echoes a value.
    """
    if len(body) > max_bytes:
        raise _too_large(body, max_bytes)
    try:
        request = Request.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(body, error) from None
    if _is_repeating(body, request):
        raise _repeating(body)
    return request


_ESCAPED: Final = re.compile(rb"\\.")


def _is_repeating(body: bytes, request: Request) -> bool:
    """Whether a field is given twice, of which the parser would silently keep the last.

    All names and all values but `task` are strings: with a name too many there are quotes too many. Counting
    them adds a fifth to the time of reading the body, a parser that shows every name would double it.
    """
    names = len(request.model_fields_set) + len(request.task.model_fields_set)
    plain = _ESCAPED.sub(b"", body) if b"\\" in body else body
    return plain.count(b'"') != 2 * (2 * names - 1)


def _repeating(body: bytes) -> InvalidRequestError:
    pairs = json.loads(body, object_pairs_hook=list)
    repeated = _repeated(pairs)
    fields = [*repeated, *(f"task.{name}" for name in _repeated(dict(pairs)["task"]))]
    # Which of the two values was meant is not ours to guess.
    sender = _sender({name: value for name, value in from_json(body).items() if name not in repeated})
    found = tuple(Violation(field=field, message=REPEATED) for field in fields)
    return InvalidRequestError(found, sender, is_addressed=True)


def _repeated(pairs: list[tuple[str, object]]) -> list[str]:
    return [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]


def _invalid(body: bytes, error: ValidationError) -> InvalidRequestError:
    try:
        content = from_json(body)
    except ValueError as reason:
        return _unreadable(f"is not JSON in UTF-8: {reason}")
    if not isinstance(content, dict):
        return _unreadable("must be a JSON object")
    return InvalidRequestError(_violations(error), _sender(content), is_addressed=True)


def _unreadable(message: str) -> InvalidRequestError:
    return InvalidRequestError((Violation(field="body", message=message),), Sender(), is_addressed=False)


def _too_large(body: bytes, max_bytes: int) -> InvalidRequestError:
    message = f"is {len(body):,} bytes long, more than the {max_bytes:,} allowed"
    # Reading a huge body only to learn its sender would cost more than it is worth.
    try:
        content = from_json(body) if len(body) <= 4 * max_bytes else None
    except ValueError:
        return _unreadable(message)
    if isinstance(content, dict):
        violation = Violation(field="body", message=message)
        return InvalidRequestError((violation,), _sender(content), is_addressed=True)
    if content is None and body.lstrip()[:1] == b"{":
        return InvalidRequestError((Violation(field="body", message=message),), Sender(), is_addressed=True)
    return _unreadable(message)


class _Identity(BaseModel):
    request_id: RequestId | None = None
    project_id: ProjectId | None = None
    region: Region | None = None
    name: Text | None = None


def _sender(content: dict[str, object]) -> Sender:
    task = content.get("task")
    found: dict[str, str | None] = {}
    for key, source in (
        ("request_id", content),
        ("project_id", content),
        ("region", content),
        ("name", task),
    ):
        value = source.get(key) if isinstance(source, dict) else None
        try:
            found[key] = getattr(_Identity.model_validate({key: value}, strict=True), key)
        except ValidationError:
            found[key] = None
    return Sender(**found)


def _violations(error: ValidationError) -> tuple[Violation, ...]:
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

"""The request message: what an upstream service puts on the requests queue."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError, from_json

from . import text_form
from .timestamp import PATTERN, is_time
from .unreadable import decoded_text, identify
from .violations import TEXT_LIMIT, TIME, VIOLATIONS_LISTED, describe

REQUEST_ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
PROJECT_ID_PATTERN: Final = r"^[A-Za-z0-9_-]{1,64}$"
REGION_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{0,63}$"
_CONTROL: Final = r"\x00-\x1f\x7f-" + "\u009f"
_BLANK: Final = r"\x20" + "\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""The characters themselves: validators in Go and PHP know no `\\u`, those in Ruby no `\\xa0`."""
NAME_PATTERN: Final = rf"^[^{_CONTROL}{_BLANK}]([^{_CONTROL}]*[^{_CONTROL}{_BLANK}])?$"
"""The service may trim or replace the others, and the task would not be recognised by its name."""

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""Some programs write it before text in UTF-8."""

REPEATED: Final = "is given more than once"
MARKED: Final = "must not contain a marker (#rq- and 16 hex digits): it would claim the task of another request"
HALVED: Final = "contains half a character (one half of a surrogate pair): cut texts between characters"


def _unmarked(description: str) -> str:
    # In the form in which it is looked for; only the sign itself and what can be unescaped become its `#`.
    if ("#" in description or "&" in description) and text_form.last_marker(description) is not None:
        raise PydanticCustomError("marked", MARKED)
    return description


Text = Annotated[str, Field(min_length=1, max_length=TEXT_LIMIT)]
Name = Annotated[str, Field(min_length=1, max_length=TEXT_LIMIT, pattern=NAME_PATTERN)]
Description = Annotated[Text, AfterValidator(_unmarked)]
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

    name: Name = Field(description="Name of the online migration task.")
    description: Description | None = Field(
        default=None,
        description="Description of the online migration task.",
        json_schema_extra=_left_out,
    )
    vpc_id: Text = Field(description="VPC ID.")
    subnet_id: Text = Field(description="Subnet network ID.")
    security_group_id: Text = Field(description="ID of the security group to which the instance belongs.")


class Request(_Strict):
    """One order to create one online data migration task."""

    request_id: RequestId | None = Field(
        default=None,
        description="Identity within the project. Two messages with one id are one request.",
        json_schema_extra=_left_out,
    )
    project_id: ProjectId = Field(description="Project in which the task is created.")
    region: Region | None = Field(
        default=None,
        description="One of the regions that the worker is configured for; its default region if missing.",
        json_schema_extra=_left_out,
    )
    not_after: Time | None = Field(
        default=None,
        description="After this instant no task is created any more (RFC 3339, with offset, no leap second).",
        json_schema_extra=_left_out,
    )
    task: Task


def parse(body: bytes, *, max_bytes: int, content_encoding: str | None = None) -> Request:
    """Read a request from the bytes of a message body; `content_encoding` is the AMQP property.

    Raises InvalidRequestError naming each broken field and rule; never echoes a value.
    """
    if len(body) > max_bytes:
        raise _too_large(body, max_bytes)
    text = body.removeprefix(BYTE_ORDER_MARK)
    try:
        request = Request.model_validate_json(text)
    except ValidationError as error:
        raise _invalid(text, content_encoding or "", error) from None
    if _is_repeating(text, request):
        raise _repeating(text)
    return request


_ESCAPED: Final = re.compile(rb"\\.")


def _is_repeating(body: bytes, request: Request) -> bool:
    """Whether a field is given twice, of which the parser would silently keep the last.

    All names and all values but `task` and nulls are strings: with a name too many there are quotes too many. Counting
    them adds a fifth to the time of reading the body, a parser that shows every name would double it.
    """
    names = len(request.model_fields_set) + len(request.task.model_fields_set)
    strings = 2 * names - 1 - (_nulls(request) + _nulls(request.task) if b"null" in body else 0)
    plain = _ESCAPED.sub(b"", body) if b"\\" in body else body
    return plain.count(b'"') != 2 * strings


def _nulls(model: BaseModel) -> int:
    return sum(getattr(model, name) is None for name in model.model_fields_set)


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


def _invalid(body: bytes, content_encoding: str, error: ValidationError) -> InvalidRequestError:
    try:
        content = from_json(body)
    except ValueError as reason:
        message, content = identify(body, content_encoding, str(reason))
        is_addressed = isinstance(content, dict)
        found = _halved(content) or (Violation(field="body", message=message),)
        return InvalidRequestError(found, _sender(content) if is_addressed else Sender(), is_addressed=is_addressed)
    if isinstance(content, str) and isinstance(inner := decoded_text(content), dict):
        twice = Violation(field="body", message="is text that holds the JSON: encode the object once")
        return InvalidRequestError((twice,), _sender(inner), is_addressed=True)
    if not isinstance(content, dict):
        return _unreadable("must be a JSON object")
    return InvalidRequestError(_violations(error), _sender(content), is_addressed=True)


def _violations(error: ValidationError) -> tuple[Violation, ...]:
    listed = describe(error, tuple(Request.model_fields), tuple(Task.model_fields))
    return tuple(Violation(field=field, message=message) for field, message in listed)


def _halved(content: object, path: str = "") -> tuple[Violation, ...]:
    """The fields of a request's two levels that hold half a character, which JSON can escape but UTF-8 cannot hold."""
    if isinstance(content, str):
        return (Violation(field=path or "body", message=HALVED),) if _is_halved(content) else ()
    if not isinstance(content, dict) or path not in ("", "task"):
        return ()
    names = [name for name in content if not _is_halved(name)]
    found = [_halved(content[name], f"{path}.{name[:64]}" if path else name[:64]) for name in names]
    return sum(found, ())[:VIOLATIONS_LISTED]


def _is_halved(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


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

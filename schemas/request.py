"""The request message: what an upstream service puts on the requests queue."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
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
from .unreadable import BYTE_ORDER_MARK, decoded_text, identify
from .violations import TEXT_LIMIT, TIME, VIOLATIONS_LISTED, BrokenRule, describe, spelled

REQUEST_ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
PROJECT_ID_PATTERN: Final = r"^[A-Za-z0-9_-]{1,64}$"
REGION_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{0,63}$"
_CONTROL: Final = r"\x00-\x1f\x7f-" + "\u009f"
_BLANK: Final = r"\x20" + "\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""The characters themselves: validators in Go and PHP know no `\\u`, those in Ruby no `\\xa0`."""
NAME_PATTERN: Final = rf"^[^{_CONTROL}{_BLANK}]([^{_CONTROL}]*[^{_CONTROL}{_BLANK}])?$"
"""The service may trim or replace the others, and the task would not be recognised by its name."""

_NAMES_READ: Final = 64
"""Of a refused body, where an identity is looked for under names of another style."""

REPEATED: Final = "is given more than once"
MARKED: Final = "must not contain a marker (#rq- and 16 hex digits): it would claim the task of another request"


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
        raise _too_large(body, max_bytes, content_encoding or "")
    text = body.removeprefix(BYTE_ORDER_MARK)
    try:
        request = Request.model_validate_json(text)
    except ValidationError as error:
        raise _invalid(text, content_encoding or "", _refused(error)) from None
    if _is_repeating(text, request):
        raise _invalid(text, "", ())
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


def _invalid(body: bytes, content_encoding: str, broken: Iterable[BrokenRule]) -> InvalidRequestError:
    """The refusal of a body; `broken`: what the models refuse in it, if they can read it."""
    found, content = _content(body, content_encoding)
    is_addressed, repeated = isinstance(content, dict), list[str]()
    if is_addressed and found:
        broken = _broken(content)
    elif is_addressed:
        repeated = _repeated_fields(body)
        found = [(field, REPEATED) for field in repeated]
    named = {field for field, _ in found}
    found += [(field, message) for field, message in broken if field not in named]
    violations = tuple(Violation(field=field, message=message) for field, message in found[:VIOLATIONS_LISTED])
    # Which of the values of a repeated field was meant is not ours to guess.
    return InvalidRequestError(violations, _sender(content, without=repeated), is_addressed=is_addressed)


def _content(body: bytes, content_encoding: str) -> tuple[list[BrokenRule], Any]:
    """What is wrong with the form of a body, nothing for a JSON object; and the JSON in it, None if there is none."""
    try:
        content = from_json(body)
    except ValueError as reason:
        return identify(body, content_encoding, str(reason))
    if isinstance(content, str) and isinstance(inner := decoded_text(content), dict):
        return [("body", "is text that holds the JSON: encode the object once")], inner
    return [] if isinstance(content, dict) else [("body", "must be a JSON object")], content


def _repeated_fields(body: bytes) -> list[str]:
    pairs = json.loads(body, object_pairs_hook=tuple)
    task = dict(pairs).get("task")
    inside = [f"task.{name}" for name in _repeated(task, Task)] if isinstance(task, tuple) else []
    return [*_repeated(pairs, Request), *inside]


def _repeated(pairs: tuple[tuple[str, object], ...], model: type[BaseModel]) -> list[str]:
    times = Counter(name for name, _ in pairs)
    return [name for name in model.model_fields if times[name] > 1]


def _broken(content: object) -> list[BrokenRule]:
    """What the models refuse in a content that was found in another form."""
    try:
        Request.model_validate_json(json.dumps(content, ensure_ascii=False).encode(errors="replace"))
    except ValidationError as error:
        return _refused(error)
    return []


def _refused(error: ValidationError) -> list[BrokenRule]:
    return describe(error, tuple(Request.model_fields), tuple(Task.model_fields))


def _too_large(body: bytes, max_bytes: int, content_encoding: str) -> InvalidRequestError:
    content: object = None
    # Reading a huge body only to learn its sender would cost more than it is worth.
    if len(body) <= 4 * max_bytes:
        _, content = _content(body.removeprefix(BYTE_ORDER_MARK), content_encoding)
    elif body[:1024].removeprefix(BYTE_ORDER_MARK).lstrip().startswith(b"{"):
        content = {}
    violation = Violation(field="body", message=f"is {len(body):,} bytes long, more than the {max_bytes:,} allowed")
    return InvalidRequestError((violation,), _sender(content), is_addressed=isinstance(content, dict))


class _Identity(BaseModel):
    request_id: RequestId | None = None
    project_id: ProjectId | None = None
    region: Region | None = None
    name: Text | None = None


def _sender(content: object, without: Sequence[str] = ()) -> Sender:
    """The identity in `content`, also under names of another style: `requestId`."""
    found: dict[str, str | None] = {}
    for name in _Identity.model_fields:
        source = _value(content, "task", without) if name == "name" else content
        try:
            found[name] = getattr(_Identity.model_validate({name: _value(source, name, without)}, strict=True), name)
        except ValidationError:
            found[name] = None
    return Sender(**found)


def _value(content: object, name: str, without: Sequence[str]) -> object:
    if not isinstance(content, dict) or name in without:
        return None
    if name in content:
        return content[name]
    plain = spelled(name)
    return next((content[key] for key in islice(content, _NAMES_READ) if spelled(key) == plain), None)

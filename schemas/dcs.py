"""Bodies of the DCS API, read tolerantly: unknown fields, missing fields and odd dates are expected.

https://support.huaweicloud.com/intl/en-us/api-dcs/CreateOnlineMigrationTask.html and its neighbours.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema, from_json, to_json

from .request import Task

ONLINE_MIGRATION: Final = "online_migration"
_NESTING: Final = 4
_TEXT: Final = 1024


class _TextOrNone:
    """A field that we can do without is None when it is not text, rather than the end of the whole reply."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: Any) -> CoreSchema:
        text = core_schema.nullable_schema(core_schema.str_schema(strict=True))
        return core_schema.with_default_schema(text, default=None, on_error="default")

    @classmethod
    def __get_pydantic_json_schema__(cls, _: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(core_schema.nullable_schema(core_schema.str_schema()))


Reply = TypeVar("Reply", bound=BaseModel)
Loose = Annotated[str | None, _TextOrNone]


class _Reply(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class CreateReply(_Reply):
    """Reply of the create call. `job_id` is not documented, but sent by the real service."""

    instance_id: str = Field(min_length=1)
    job_id: Loose = None


class TaskRow(_Reply):
    """One row of the list call; older services leave `description` out."""

    task_id: str = Field(min_length=1)
    task_name: Loose = None
    description: Loose = None
    migration_type: Loose = None
    status: Loose = None
    error_message: Loose = None
    ecs_tenant_private_ip: Loose = None
    created_at: Loose = None


class ListReply(_Reply):
    """One page of the list call. A reply without the list proves no absence, so it is no page."""

    migration_tasks: tuple[TaskRow, ...]


class TaskDetail(_Reply):
    """Reply of the detail call, without the parts that hold passwords."""

    task_id: str = Field(min_length=1)
    task_name: Loose = None
    description: Loose = None
    status: Loose = None
    ecs_tenant_private_ip: Loose = None
    migration_type: Loose = None
    created_at: Loose = None
    tenant_vpc_id: Loose = None
    tenant_subnet_id: Loose = None
    tenant_security_group_id: Loose = None


class JobReply(_Reply):
    """Reply of the job call: the state of the job that creates a task."""

    status: Loose = None
    fail_reason: Loose = None


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What an error reply says, whichever of the known shapes it has."""

    error_code: str | None = None
    error_msg: str | None = None
    error_ext_msg: str | None = None
    request_id: str | None = None


# DCS V2 and the API gateway; other services; DCS V1 and IAM (inside `error`); Neutron (its type is no code of DCS).
# A pair counts only whole.
SHAPES: Final = (
    ("error_code", "error_msg"),
    ("errorCode", "errorMsg"),
    ("errorCode", "errorMessage"),
    ("code", "message"),
    ("type", "message"),
)
EXTENSIONS: Final = ("error_ext_msg", "ext_message", "detail")


def create_body(task: Task, description: str | None) -> bytes:
    """The body of the create call for `task`, with this description in place of the task's."""
    content = {"name": task.name}
    if description is not None:
        content["description"] = description
    content |= {"vpc_id": task.vpc_id, "subnet_id": task.subnet_id, "security_group_id": task.security_group_id}
    return to_json(content)


def read_create_reply(body: bytes) -> CreateReply | None:
    """The reply of a create call, or None where it holds no usable task id."""
    try:
        return CreateReply.model_validate_json(body, strict=True)
    except ValidationError:
        return None


def read_reply(body: bytes, model: type[Reply]) -> Reply | None:
    """The reply of a list or detail call, also where a text in it is cut within a character; None if it is no such."""
    try:
        return model.model_validate_json(body)
    except ValidationError:
        pass
    try:
        return model.model_validate_json(json.dumps(_content(body), ensure_ascii=False).encode(errors="replace"))
    except ValidationError:
        return None


def read_error(body: bytes, redact: Callable[[str], str] = str) -> ErrorBody:
    """Code and message of an error reply; empty where it is HTML, nothing, or of no known shape.

    `redact` removes secrets from each text, before it is cut.
    """
    for level in _levels(_content(body), _NESTING):
        for code, message in SHAPES:
            if code in level and message in level:
                return ErrorBody(
                    error_code=_short(level[code], redact),
                    error_msg=_short(level[message], redact),
                    error_ext_msg=next((_short(level[name], redact) for name in EXTENSIONS if level.get(name)), None),
                    request_id=_short(level.get("request_id"), redact),
                )
    return ErrorBody()


def _content(body: bytes) -> object:
    """The JSON in a body, also where its text is no UTF-8 or has a byte order mark: the code decides what happens."""
    try:
        return from_json(body)
    except ValueError:
        pass
    try:
        return json.loads(body.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None


def _levels(content: object, depth: int) -> Iterator[dict[str, object]]:
    if isinstance(content, list) and content:
        content = content[0]  # `errors`: one speaks for all
    if isinstance(content, dict) and depth:
        yield content
        for value in content.values():
            yield from _levels(value, depth - 1)


def _short(value: object, redact: Callable[[str], str]) -> str | None:
    # IAM sends its code as a number.
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return redact(str(value))[:_TEXT].encode(errors="replace").decode()  # a lone surrogate could not be written again

"""Writes the JSON Schemas (draft 2020-12) of what crosses the wire: `python -m schemas.generate [FOLDER]`.

They come from the models that the worker reads and writes with; what is no model is described once, here.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core.core_schema import NullableSchema

from . import names
from .dcs import SHAPES, CreateReply
from .event import MigrationFailed, MigrationProvisioned, MigrationProvisioningFailed, MigrationSucceeded
from .journal import LIMIT, Journal
from .request import Request, Task

FOLDER: Final = Path(__file__).parent / "json"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

LATER_FIELDS: Final = ("candidates", "task_status")
"""Fields of events that some events lack: where nothing is to say, or because an earlier version wrote them."""

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Header:
    """One header of the envelope."""

    name: str
    type: str
    description: str
    is_always: bool = False
    """Every copy that the worker makes bears it."""
    is_time: bool = False
    is_json: bool = False

    def schema(self) -> Schema:
        """The header's own schema."""
        bounds = {"minimum": 0} if self.type == "integer" else {}
        form = {"format": "date-time"} if self.is_time else {}
        inside = {"contentMediaType": names.JSON, "maxLength": LIMIT} if self.is_json else {}
        return {"type": self.type, "description": self.description, **bounds, **form, **inside}


JOURNAL: Final = Header(
    names.JOURNAL,
    "string",
    "What was done for the request, in JSON (`journal` among the schemas), as `dcs-worker explain` renders it. Absent: "
    "only the create call that the event tells of. It is for people, bounded, may be absent: decide nothing by it.",
    is_json=True,
)
HEADERS: Final = (
    Header(names.ATTEMPTS, "integer", "Create calls so far.", is_always=True),
    Header(names.ROUND, "integer", "Retry levels used.", is_always=True),
    Header(names.DELIVERIES, "integer", "All deliveries so far, in every queue.", is_always=True),
    Header(names.INTERRUPTIONS, "integer", "Deliveries that ended without a word of their worker.", is_always=True),
    Header(names.REPLAYS, "integer", "Times that an operator sent the request again; absent: none."),
    Header(names.FIRST_RECEIVED_AT, "string", "When the request was first received.", is_always=True, is_time=True),
    Header(names.MAY_BE_OLDER, "boolean", "The request may have been received earlier, by a delivery that was lost."),
    Header(
        names.LAST_SENT_AT,
        "string",
        "When a create call may last have been in flight; absent: certainly never.",
        is_time=True,
    ),
    Header(names.LAST_ERROR, "string", "What DCS answered the last create that may have acted, in JSON.", is_json=True),
    Header(names.STAGE, "string", "`follow-up` on a watch, which is no request and only in the follow-up queues."),
    Header(names.TASK_ID, "string", "Id of the watched task."),
    Header(names.JOB_ID, "string", "Id of the job that creates the watched task, if DCS named one."),
    JOURNAL,
    Header(names.PARKED_REASON, "string", "Why the request needs an operator."),
    Header(names.PARKED_ERROR_CODE, "string", "Error code that DCS answered last, if it answered one."),
    Header(names.PARKED_AT, "string", "When the request was parked.", is_time=True),
    Header(names.EXPIRATION, "string", "AMQP expiration of the original, which would delete the copy."),
    Header(names.USER_ID, "string", "AMQP user id of the original, with which the broker would refuse the copy."),
    Header(names.TRACEPARENT, "string", "W3C Trace Context of the sender."),
    Header(names.TRACESTATE, "string", "W3C Trace Context of the sender."),
)


class _Plain(GenerateJsonSchema):
    """Schemas from which generators of code make plain types: titles are names of types, null is one of two types."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False

    def nullable_schema(self, schema: NullableSchema) -> Schema:
        """`"type": ["string", "null"]` instead of a choice of two schemas, of which generators make unnamed types."""
        inner = self.generate_inner(schema["schema"])
        if isinstance(type_ := inner.get("type"), str):
            return {**inner, "type": [type_, "null"]}
        return super().nullable_schema(schema)


def documents() -> dict[str, Schema]:
    """Every schema by the name of its file, without `.json`."""
    bodies = {
        "request": ("MigrationRequest", _model(Request)),
        "migration_succeeded": ("MigrationSucceeded", _complete(_model(MigrationSucceeded))),
        "migration_failed": ("MigrationFailed", _complete(_model(MigrationFailed))),
        "migration_provisioned": ("MigrationProvisioned", _complete(_model(MigrationProvisioned))),
        "migration_provisioning_failed": (
            "MigrationProvisioningFailed",
            _complete(_model(MigrationProvisioningFailed)),
        ),
        "journal": ("Journal", _model(Journal)),
        "envelope": ("RequestHeaders", _envelope()),
        "dcs_create_body": ("CreateTaskBody", _model(Task)),
        "dcs_create_reply": ("CreateTaskReply", _model(CreateReply)),
        "dcs_error": ("ErrorReply", _error()),
    }
    return {name: _document(name, title, schema) for name, (title, schema) in bodies.items()}


def render(schema: Schema) -> str:
    """The text of a schema's file."""
    return json.dumps(schema, indent=2) + "\n"


def write(folder: Path) -> list[Path]:
    """Write every schema into `folder`; the files written."""
    written = []
    for name, schema in documents().items():
        file = folder / f"{name}.json"
        file.write_text(render(schema), encoding="utf-8")
        written.append(file)
    return written


def main(arguments: Sequence[str]) -> None:
    """Write into the folder that `arguments` name, else where the committed ones are."""
    write(Path(arguments[0]) if arguments else FOLDER)


def _document(name: str, title: str, schema: Schema) -> Schema:
    head = {"$schema": DIALECT, "$id": names.schema_id(name), "title": title}
    return head | {key: value for key, value in schema.items() if key != "title"}


def _model(model: type[BaseModel]) -> Schema:
    return model.model_json_schema(schema_generator=_Plain)


def _complete(schema: Schema) -> Schema:
    """The schema of what the worker writes: every field is there, also with its default.

    Unknown fields are allowed, so that readers are ready for what is added later.
    """
    for part in (schema, *schema.get("$defs", {}).values()):
        if "properties" in part:
            part["required"] = [name for name in part["properties"] if name not in LATER_FIELDS]
            for field in part["properties"].values():
                field.pop("default", None)
            if "candidates" in part["properties"]:  # left out instead of null
                part["properties"]["candidates"]["type"] = "array"
    return schema


def _envelope() -> Schema:
    return {
        "description": "State that a request carries from delivery to delivery, beside the sender's own headers.",
        "type": "object",
        "properties": {header.name: header.schema() for header in HEADERS},
        "required": [header.name for header in HEADERS if header.is_always],
    }


def _error() -> Schema:
    code: Schema = {"type": ["string", "integer", "null"]}
    text: Schema = {"type": ["string", "null"]}
    extra = {"error_ext_msg": text, "request_id": text}
    pairs = [
        {"properties": {code_name: code, message_name: text, **extra}, "required": [code_name, message_name]}
        for code_name, message_name in SHAPES
    ]
    # Any field's value can hold the pair: not every field is something else.
    nested = {"not": {"additionalProperties": {"not": {"$ref": "#"}}}}
    description = "One of the known pairs of code and message, itself or in one of its fields."
    return {"description": description, "type": "object", "anyOf": [*pairs, nested]}


if __name__ == "__main__":
    main(sys.argv[1:])

"""The messages of the AsyncAPI document: payloads, headers, AMQP properties, examples."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from . import event, names
from .event import FAILED_TYPE, PROVISIONED_TYPE, PROVISIONING_FAILED_TYPE, SUCCEEDED_TYPE
from .generate import HEADERS, JOURNAL, Schema, documents

EXAMPLES: Final = Path(__file__).parent / "examples"
BINDING: Final = {"bindingVersion": "0.3.0"}
EVENTS: Final = (
    ("migrationSucceeded", "succeeded", "The task exists.", SUCCEEDED_TYPE),
    ("migrationFailed", "failed", "The request failed.", FAILED_TYPE),
    ("migrationProvisioned", "provisioned", "The task is ready.", PROVISIONED_TYPE),
    ("migrationProvisioningFailed", "provisioning_failed", "The task is not ready.", PROVISIONING_FAILED_TYPE),
)
"""Message, its name in schemas and examples, summary, event type."""
PAYLOADS: Final = ("request", *(f"migration_{name}" for _, name, *_ in EVENTS), "journal")
TRACE: Final = (names.TRACEPARENT, names.TRACESTATE)

REPEATED: Final = {
    "type": "boolean",
    "description": "True on an answer from memory, which may be the first one; else absent.",
}

REQUEST_PROPERTIES: Final = """\
Published persistent, in UTF-8, at most WORKER_MAX_MESSAGE_BYTES (default 65,536).
Unknown fields are refused, at both levels; `null` means left out.

AMQP properties that are used when present:

- `correlation_id`: copied to the events.
- `reply_to`: the event is sent there as well, through the default exchange.
- `message_id`: stands in for a missing `correlation_id`; it is no identity of the request.
- `timestamp`: when the request was sent; its age in the metrics starts there.
- `priority`, `expiration`: as the broker has them; the broker parks an expired request, without an event."""

EVENT_PROPERTIES: Final = """\
Metadata are CloudEvents 1.0 in binary mode. Ignore unknown fields, and accept unknown values of `reason`,
`resolution` and `task_status`.

AMQP properties:

- `message_id`: the CloudEvents id, one per meaning: drop repeats by it.
- `correlation_id`: the request's, else the `request_id` in its body, else its `message_id`.
- `type`: the CloudEvents type."""


def messages() -> Schema:
    """Every message by its name."""
    whole = [EXAMPLES / "request" / "valid" / f"{name}.json" for name in ("full", "smallest")]
    trace = _trace_headers()
    parked = {**documents()["envelope"]["properties"], **trace}
    as_came = "Its body and properties as they came: where `x-parked-reason` is `invalid_request`, any bytes at all."
    return {
        "request": _message("request", "One order to create one task.", REQUEST_PROPERTIES, trace, whole),
        "parkedRequest": _message("request", "A request that needs an operator.", as_came, parked, whole[:1]),
        **{message: _event(name, summary, type_) for message, name, summary, type_ in EVENTS},
    }


def _event(name: str, summary: str, type_: str) -> Schema:
    payload, found = f"migration_{name}", sorted((EXAMPLES / "event").glob(f"{name}_*.json"))
    headers = {**_cloud_event(type_), **_trace_headers(), JOURNAL.name: JOURNAL.schema(), names.REPEATED: REPEATED}
    required = [name for name in _cloud_event(type_) if not name.endswith(":subject")]
    message = _message(payload, summary, EVENT_PROPERTIES, headers, found, type_)
    message["headers"]["required"] = required
    return message


def _message(
    payload: str, summary: str, description: str, headers: Schema, examples: Iterable[Path], type_: str | None = None
) -> Schema:
    return {
        "summary": summary,
        "description": description,
        "contentType": names.JSON,
        "headers": {"type": "object", "properties": headers},
        "payload": {"$ref": f"#/components/schemas/{payload}"},
        "correlationId": {"description": "AMQP property.", "location": "$message.header#/correlation_id"},
        "bindings": {"amqp": {**({"messageType": type_} if type_ else {}), **BINDING}},
        "examples": [{"name": file.stem, "payload": json.loads(file.read_bytes())} for file in examples],
    }


def _trace_headers() -> Schema:
    return {header.name: header.schema() for header in HEADERS if header.name in TRACE}


def _cloud_event(type_: str) -> Schema:
    known = {"specversion": {"const": event.SPECVERSION}, "source": {"const": event.SOURCE}, "type": {"const": type_}}
    known["dataschema"] = {"const": event.DATASCHEMAS[type_]}
    attributes = event.headers(id_="", type_=type_, subject="", time="")
    described = {"id": "One per meaning.", "subject": "The request id, if it could be read.", "time": "Of completion."}
    found = {}
    for name in attributes:
        short = name.partition(":")[2]
        text = {"description": described[short]} if short in described else {}
        form = {"format": "date-time"} if short == "time" else {}
        found[name] = {"type": "string", **known.get(short, {}), **text, **form}
    return found


def payloads() -> Schema:
    """The schemas of the payloads, with what they define beside them."""
    found: Schema = {}
    for name in PAYLOADS:
        schema = documents()[name]
        parts = {**schema.pop("$defs", {}), name: schema}
        for part, content in parts.items():
            lifted = json.loads(json.dumps(content).replace('"#/$defs/', '"#/components/schemas/'))
            assert found.setdefault(part, lifted) == lifted, f"two schemas are called {part}"
    for name in PAYLOADS:
        for key in ("$schema", "$id"):
            del found[name][key]
    return found

"""A parked message as one JSON object with all its content, for `parked export`, `drop` and `show --json`."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from schemas import names
from worker.cli.parked.request import ParkedRequest
from worker.rabbit.tools.parked_queue import ParkedMessage


def record(request: ParkedRequest) -> dict[str, Any]:
    """Identity, headers, properties and body."""
    parked = request.parked
    return {
        **request.summary(),
        "headers": headers_of(parked),
        "properties": properties_of(parked),
        "body": body_of(parked),
    }


def record_line(request: ParkedRequest) -> str:
    """The record as one line of JSON Lines."""
    return json.dumps(record(request)) + "\n"


def body_of(parked: ParkedMessage) -> str | dict[str, str]:
    """The body as text, or `{"base64": ...}` if it is not UTF-8."""
    return _text_or_base64(parked.body)


def headers_of(parked: ParkedMessage) -> dict[str, Any]:
    """The headers as JSON values, without those of the broker, which count reads of the parked queue."""
    return {str(name): _json_value(value) for name, value in parked.headers.items() if name not in names.BROKER}


def properties_of(parked: ParkedMessage) -> dict[str, Any]:
    """The other properties that are set, as JSON values."""
    return {name: _json_value(value) for name, value in parked.attributes.items()}


def _json_value(value: object) -> Any:
    match value:
        case bytes() | bytearray():
            return _text_or_base64(bytes(value))
        case datetime():
            return value.astimezone(UTC).isoformat()
        case Mapping():
            return {str(name): _json_value(member) for name, member in value.items()}
        case list() | tuple():
            return [_json_value(member) for member in value]
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)


def _text_or_base64(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}

"""Timelines read from messages on standard input: events, parked requests, or requests from a retry queue.

The input is one JSON value, or JSON Lines. A message is an object with `body` (from `parked export`) or `payload`
(from RabbitMQ's management API and rabbitmqadmin), and `headers`, at the top or in `properties`. The body of an event
alone is accepted too, but has no journal.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from schemas.client import read_event
from worker.cli.parked.request import ParkedRequest
from worker.cli.parked.timeline import RequestTimeline, is_parked, timeline_of_parked
from worker.config import Settings
from worker.rabbit.tools.parked_queue import ParkedMessage


class InvalidMessageError(ValueError):
    """The input has no valid message; the text says what to give."""


def read_timelines(text: bytes, settings: Settings) -> Iterator[RequestTimeline]:
    """The timeline of each message in `text`. Raises InvalidMessageError."""
    for number, message in enumerate(_parse_messages(text), 1):
        try:
            yield _timeline_from(message, settings)
        except (ValueError, TypeError, KeyError, RecursionError):
            raise InvalidMessageError(f"Message {number} is neither an event nor a request of the worker.") from None


def _parse_messages(text: bytes) -> list[Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = _parse_lines(text)
    messages = content if isinstance(content, list) else [content]
    if not messages:
        raise InvalidMessageError("Standard input has no message.")
    return messages


def _parse_lines(text: bytes) -> list[Any]:
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        raise InvalidMessageError("Standard input is not JSON: give one message, or one per line.") from None


def _timeline_from(message: Any, settings: Settings) -> RequestTimeline:
    properties = _object_field(message, "properties")
    headers = _object_field(message, "headers") or _object_field(properties, "headers")
    body = _body(message)
    try:
        return RequestTimeline.from_event(read_event(body), headers)
    except ValueError:
        request = ParkedRequest.read(ParkedMessage.not_held(body, headers, properties.get("message_id")), settings)
        if request.parsed is None and not is_parked(request):
            raise
        return timeline_of_parked(request, is_parked=is_parked(request))


def _object_field(message: Any, name: str) -> Mapping[str, Any]:
    """The object in this field, empty if missing. Raises TypeError if it is not an object."""
    part = message.get(name) or {} if isinstance(message, Mapping) else None
    if not isinstance(part, Mapping):
        raise TypeError(f"no {name}")
    return part


def _body(message: Mapping[str, Any]) -> bytes:
    body = message.get("body", message.get("payload", message))
    match body:
        case {"base64": str(coded)}:
            return base64.b64decode(coded)
        case str() if message.get("payload_encoding") == "base64":
            return base64.b64decode(body)
        case str():
            return body.encode()
        case _:
            return json.dumps(body).encode()

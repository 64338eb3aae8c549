"""Messages on standard input: an event, or a parked request, as whoever read it from a queue writes it down.

One JSON value, or one a line. A message is an object with `body` (`parked export` does so) or `payload` (RabbitMQ's
management API and rabbitmqadmin do), and `headers`, on top or within `properties`. The bare body of an event will do,
but has no journal.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from schemas.client import read_event
from worker.cli.explaining.parked import is_parked, of_story
from worker.cli.explaining.tale import Tale
from worker.cli.parked.story import Story
from worker.config import Settings
from worker.rabbit.parked import Parked


class NothingTold(ValueError):  # noqa: N818 - it says what was found
    """What was given is no message; the text is for a person."""


def tales(text: bytes, settings: Settings) -> Iterator[Tale]:
    """The tale of each message in `text`. Raises NothingTold."""
    for number, message in enumerate(_messages(text), 1):
        try:
            yield _tale(message, settings)
        except (ValueError, TypeError, KeyError, RecursionError):
            raise NothingTold(f"Message {number} is neither an event nor a request of this worker.") from None


def _messages(text: bytes) -> list[Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = _lines(text)
    messages = found if isinstance(found, list) else [found]
    if not messages:
        raise NothingTold("There is no message on standard input.")
    return messages


def _lines(text: bytes) -> list[Any]:
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        raise NothingTold("Standard input is no JSON: give an event as it was received, or a line each.") from None


def _tale(message: Any, settings: Settings) -> Tale:
    properties = _part(message, "properties")
    headers = _part(message, "headers") or _part(properties, "headers")
    body = _body(message)
    try:
        return Tale.of_event(read_event(body), headers)
    except ValueError:
        story = Story.read(Parked.told(body, headers, properties.get("message_id")), settings)
        if story.order is None and not is_parked(story):
            raise
        return of_story(story, is_parked=is_parked(story))


def _part(message: Any, name: str) -> Mapping[str, Any]:
    """Raises TypeError if it is no object."""
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

"""Who a request is: derived ids, fingerprints and the marker by which its task is recognised."""

import hashlib
import json
import uuid
from typing import Final

from .event import FAILED_TYPE, MigrationFailed
from .request import Task

# Namespaces of the UUIDv5s (RFC 9562, 5.5). Changing one changes every id derived below.
_REQUESTS: Final = uuid.UUID("8c6f6f0e-5d0b-5a5e-9a39-0f6f3c9a7f11")
_EVENTS: Final = uuid.UUID("2f1f0a4c-93c3-5f8b-8d55-5f0c7f1f6f22")

_EVENTS_SHA1: Final = hashlib.sha1(_EVENTS.bytes, usedforsecurity=False)
_VARIANTS: Final = dict(
    zip("0123456789abcdef", "89ab" * 4, strict=True)
)  # of RFC 9562, 4.1: the first digit's high bits

_UNIT: Final = "\x1f"  # cannot occur in any of the joined parts that senders choose freely


def request_id(project_id: str, region: str, task: Task) -> str:
    """Identity of a request that brings none: the same content is the same request."""
    content = json.dumps(task.model_dump(exclude_none=True), sort_keys=True, ensure_ascii=False)
    return str(uuid.uuid5(_REQUESTS, _UNIT.join((project_id, region, content))))


def fingerprint(region: str, task: Task) -> str:
    """32 hex digits that tell whether two requests of one id order the same task."""
    name, description = task.name, task.description or ""
    vpc, subnet, group = task.vpc_id, task.subnet_id, task.security_group_id
    text = (
        f"{len(region)}:{region}{_UNIT}{len(name)}:{name}{_UNIT}{len(description)}:{description}{_UNIT}"
        f"{len(vpc)}:{vpc}{_UNIT}{len(subnet)}:{subnet}{_UNIT}{len(group)}:{group}"
    )
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def marker(request_id: str) -> str:
    """The text that makes a task recognisable as this request's, at the end of its description."""
    return "#rq-" + hashlib.sha256(request_id.encode()).hexdigest()[:16]


def event_id(project_id: str | None, request_id: str | None, type_: str, *meaning: object) -> str:
    """The CloudEvents id: a UUIDv5 of what the event means. However often one outcome is published, it has one id.

    `meaning` of a success: the id of its task; of a failure: see `failure_id`. None is the empty text.
    """
    texts = ["" if part is None else str(part) for part in meaning]
    name = _UNIT.join((project_id or "", request_id or "", type_, *texts))
    # uuid.uuid5 without its object, which costs five times as much; one is made for every event.
    hashed = _EVENTS_SHA1.copy()
    hashed.update(name.encode())
    text = hashed.hexdigest()
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{_VARIANTS[text[16]]}{text[17:20]}-{text[20:32]}"


def failure_id(failure: MigrationFailed, replays: int, message: bytes) -> str:
    """The CloudEvents id of a failure after so many replays by an operator; `message`: the AMQP body as received.

    Reason and digest have a fixed form, so no error code can make two meanings one text.
    """
    status, code = (failure.error.status, failure.error.error_code) if failure.error else (None, None)
    digest = hashlib.sha256(message).hexdigest()
    meaning = (failure.reason, status, code, replays, digest)
    return event_id(failure.project_id, failure.request_id, FAILED_TYPE, *meaning)


def body_id(body: bytes) -> str:
    """What stands for the request id of a body from which none could be read."""
    return "sha256:" + hashlib.sha256(body).hexdigest()


def marked_description(task: Task, marker: str) -> str:
    """The task's description with the request's marker as its last word."""
    return f"{task.description} {marker}" if task.description else marker

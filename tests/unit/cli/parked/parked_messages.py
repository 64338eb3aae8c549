"""A parked message of the unit tests: body, headers, and the request read from them."""

import json
from collections.abc import Mapping
from typing import Any

from pamqp.commands import Basic

from schemas import names
from schemas.journal import EMPTY, Kind
from worker.cli.parked.request import ParkedRequest
from worker.config import Settings, load
from worker.rabbit.tools.parked_queue import ParkedMessage

NOW = 1_800_000_000.0
SETTINGS: Settings = load({}, credentials=False).settings
TASK = {"name": "batch-1", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}
BODY = json.dumps({"request_id": "r", "project_id": "p", "task": TASK}).encode()
HEADERS = {
    names.ATTEMPTS: 2,
    names.ROUND: 4,
    names.DELIVERIES: 7,
    names.INTERRUPTIONS: 1,
    names.FIRST_RECEIVED_AT: "2026-11-01T08:00:00.000Z",
    names.LAST_SENT_AT: "2026-11-01T08:30:00.000Z",
    names.PARKED_REASON: "exhausted",
    names.PARKED_AT: "2026-11-01T09:00:00.000Z",
}
JOURNAL_TIME = 1_790_000_000.0
JOURNAL = (
    EMPTY.add(JOURNAL_TIME + 0.3, Kind.CREATE, "500", n=1, took=0.3, evidence="ambiguous", code="DCS.5000", id_="d-1")
    .add(JOURNAL_TIME + 0.4, Kind.LOOKUP, "absent", took=0.1)
    .add(JOURNAL_TIME + 0.4, Kind.WAIT, "settle", n=2, took=60)
)
JOURNAL_TEXTS = [
    "create call 1: 500 (DCS.5000) after 0.3 s, result unknown: a task may have been created, DCS request id d-1",
    "lookup: no task found after 0.1 s",
    "waits 1 min in retry queue 2: a create call may still take effect",
]


def parked_request(body: bytes = BODY, headers: Mapping[str, Any] = HEADERS, **properties: Any) -> ParkedRequest:
    """The request of a parked message."""
    return ParkedRequest.read(ParkedMessage(body, Basic.Properties(headers=dict(headers), **properties)), SETTINGS)

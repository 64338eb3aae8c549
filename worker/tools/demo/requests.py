"""Requests of the demo, and the fault that the fake DCS injects into each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final

from schemas.event import Reason

PROJECT_ID: Final = "0123456789abcdef0123456789abcdef"
FORBIDDEN_PROJECT_ID: Final = "fedcba9876543210fedcba9876543210"
SUCCEEDED: Final = "succeeded"

# Short times, so that recovery is visible within seconds. The retry levels after the third are for slow machines, on
# which further calls time out: there the demo takes longer, but does not fail.
WORKER_SETTINGS: Final[Mapping[str, str]] = {
    "WORKER_RETRY_DELAYS": "1,2,3,4",
    "WORKER_DCS_TIMEOUT": "2",
    "WORKER_SETTLE": "3",
}


@dataclass(frozen=True, slots=True)
class RequestKind:
    """A kind of request: its fault, as a `script` of fault steps of the fake DCS, and its expected outcome."""

    fault: str
    share: int
    """Of every 200 requests."""
    script: tuple[str, ...] = ()
    expected: str = SUCCEEDED
    """SUCCEEDED, or the reason of the failure."""
    copies: int = 1
    project: str = PROJECT_ID
    misspelt: bool = False


# The quota of "throttled first" is never reached: the rate that the worker learns from it must not slow down all other
# requests on a slow machine.
REQUEST_KINDS: Final = (
    RequestKind("none", 136),
    RequestKind("duplicate message", 6, copies=2),
    RequestKind("a slow answer", 8, ("slow 0.5",)),
    RequestKind("DCS busy first", 8, ("error 400 DCS.4049", "ok")),
    RequestKind("throttled first", 8, ("throttle 200/second", "ok")),
    RequestKind("reset before acting", 4, ("drop", "ok")),
    RequestKind("503 before acting", 4, ("error 503", "ok")),
    RequestKind("reset after creating", 6, ("create then drop",)),
    RequestKind("502 after creating", 4, ("create then error 502",)),
    RequestKind("answer after the deadline", 4, ("slow 3",)),
    RequestKind("answer without an id", 2, ("create then no id",)),
    RequestKind("created after the deadline", 2, ("create late 2.1",)),
    RequestKind("a VPC that does not exist", 4, ("error 400 DCS.4013",), Reason.REJECTED),
    RequestKind("a project without permission", 2, ("error 403",), Reason.FORBIDDEN, project=FORBIDDEN_PROJECT_ID),
    RequestKind("a misspelt field", 2, expected=Reason.INVALID_REQUEST, misspelt=True),
)


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request of the demo."""

    request_id: str
    name: str
    kind: RequestKind
    body: bytes


def plan_requests(number: int) -> list[PlannedRequest]:
    """Plan `number` requests, with the kinds spread evenly."""
    spread = sorted(
        ((turn + 0.5) / kind.share, place) for place, kind in enumerate(REQUEST_KINDS) for turn in range(kind.share)
    )
    kinds = (REQUEST_KINDS[place] for _, place in spread)
    return [_planned(serial, kind) for serial, kind in enumerate(islice(cycle(kinds), number), 1)]


def fault_scripts(planned: Sequence[PlannedRequest]) -> dict[str, list[str]]:
    """The fake DCS's scripts by task name."""
    return {request.name: list(request.kind.script) for request in planned if request.kind.script}


def _planned(serial: int, kind: RequestKind) -> PlannedRequest:
    request_id, name = f"demo-{serial:06}", f"migration-{serial:06}"
    task = {
        "name": name,
        "description": "Creating an online data migration task",
        "vpc_idd" if kind.misspelt else "vpc_id": "5e37b3be-950a-48e1-b498-65b63d336481",
        "subnet_id": "40f15ed6-7f85-49d5-ba0e-65b940d4812c",
        "security_group_id": "9df96622-24b7-4813-84b8-ab74552a21d7",
    }
    body = {"request_id": request_id, "project_id": kind.project, "task": task}
    return PlannedRequest(request_id, name, kind, json.dumps(body).encode())

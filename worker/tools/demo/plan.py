"""What the demo sends, and what each request meets at the stand-in."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final

from schemas.event import Reason

PROJECT: Final = "0123456789abcdef0123456789abcdef"
CLOSED_PROJECT: Final = "fedcba9876543210fedcba9876543210"
SUCCEEDED: Final = "succeeded"

# The worker under demonstration: seconds, and short ones, so that what heals does so while one watches. The places
# beyond the third are for machines so slow that calls time out which should not: there it takes longer, no more.
PACE: Final[Mapping[str, str]] = {
    "WORKER_RETRY_DELAYS": "1,2,3,4",
    "WORKER_DCS_TIMEOUT": "2",
    "WORKER_SETTLE": "3",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What befalls a request; `script` is in the words of the stand-in's fault steps, its last step repeats."""

    met: str
    share: int
    """Of every 200 requests."""
    script: tuple[str, ...] = ()
    expected: str = SUCCEEDED
    """SUCCEEDED, or the reason why it fails."""
    copies: int = 1
    project: str = PROJECT
    misspelt: bool = False


# The quota is one that the demo never reaches: what the worker learns from it must not slow all others down, on a
# machine so slow that it has made few calls by then.
KINDS: Final = (
    Kind("nothing unusual", 136),
    Kind("sent twice", 6, copies=2),
    Kind("a slow answer", 8, ("slow 0.5",)),
    Kind("busy at first", 8, ("error 400 DCS.4049", "ok")),
    Kind("throttled at first", 8, ("throttle 200/second", "ok")),
    Kind("reset before acting", 4, ("drop", "ok")),
    Kind("503 before acting", 4, ("error 503", "ok")),
    Kind("reset after creating", 6, ("create then drop",)),
    Kind("502 after creating", 4, ("create then error 502",)),
    Kind("answer after the deadline", 4, ("slow 3",)),
    Kind("answer without an id", 2, ("create then no id",)),
    Kind("created after the deadline", 2, ("create late 2.1",)),
    Kind("a VPC that does not exist", 4, ("error 400 DCS.4013",), Reason.REJECTED),
    Kind("a project without permission", 2, ("error 403",), Reason.FORBIDDEN, project=CLOSED_PROJECT),
    Kind("a misspelt field", 2, expected=Reason.INVALID_REQUEST, misspelt=True),
)


@dataclass(frozen=True, slots=True)
class Planned:
    """One request of the demo."""

    request_id: str
    name: str
    kind: Kind
    body: bytes


def plan(number: int) -> list[Planned]:
    """So many requests, the kinds spread evenly among them."""
    spread = sorted(
        ((turn + 0.5) / kind.share, place) for place, kind in enumerate(KINDS) for turn in range(kind.share)
    )
    kinds = (KINDS[place] for _, place in spread)
    return [_planned(serial, kind) for serial, kind in enumerate(islice(cycle(kinds), number), 1)]


def scripts(planned: Sequence[Planned]) -> dict[str, list[str]]:
    """The stand-in's scripts by task name."""
    return {one.name: list(one.kind.script) for one in planned if one.kind.script}


def _planned(serial: int, kind: Kind) -> Planned:
    request_id, name = f"demo-{serial:06}", f"migration-{serial:06}"
    task = {
        "name": name,
        "description": "Creating an online data migration task",
        "vpc_idd" if kind.misspelt else "vpc_id": "5e37b3be-950a-48e1-b498-65b63d336481",
        "subnet_id": "40f15ed6-7f85-49d5-ba0e-65b940d4812c",
        "security_group_id": "9df96622-24b7-4813-84b8-ab74552a21d7",
    }
    body = {"request_id": request_id, "project_id": kind.project, "task": task}
    return Planned(request_id, name, kind, json.dumps(body).encode())

"""What a replay would do, and how its canary ends, with a cloud and events that are made up."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from schemas import identity
from schemas.event import FAILED_KEY, FAILED_TYPE, SUCCEEDED_KEY
from tests.unit.cli.parked.test_request import BODY, HEADERS, TASK, parked_request
from worker.cli.parked.canary import Canary, CanaryOutcome
from worker.cli.parked.replay_preview import MAX_CONCURRENT_LOOKUPS, ReplayPreview, ReplayVerdict
from worker.cli.progress import Pacer
from worker.config import load
from worker.policy.fault import Absent, CallStatus, Evidence, Fault, Found, Remedy, Several, Sighting
from worker.policy.order import Order
from worker.rabbit.follower import Event

REFUSED = Fault(
    Evidence.REFUSED, Remedy.FORBIDDEN, CallStatus.ANSWERED, error_code="DCS.4030", error_msg="no right to list"
)


class FakeDcsClient:
    """Finds what it is told to, and counts who looks at once."""

    def __init__(self, sighting: Sighting | Fault) -> None:
        self.sighting = sighting
        self.since: list[float] = []
        self.running = self.most_at_once = 0

    async def find(self, parsed: Order, since: float) -> Sighting | Fault:
        """Look."""
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        self.since.append(since)
        await asyncio.sleep(0)
        self.running -= 1
        return self.sighting


async def _preview(client: FakeDcsClient, *requests: Any, **settings: str) -> list[tuple[str, ReplayVerdict]]:
    loaded = load({f"WORKER_{name.upper()}": value for name, value in settings.items()}, credentials=False)
    seen: list[tuple[str, ReplayVerdict]] = []
    preview = ReplayPreview(loaded, client, Pacer(None))  # type: ignore[arg-type]  # all that it needs of a client
    await preview.check_all(requests, lambda one, verdict: seen.append((one.id, verdict)))
    return seen


@pytest.mark.parametrize(
    ("sighting", "kind", "words"),
    [
        (Found("t1"), "exists", "already exists as t1: only the event is sent"),
        (Absent(), "create", "would create"),
        (Several(("t1", "t2")), "unclear", "several tasks may be it: t1, t2"),
        (REFUSED, "unclear", "cannot be told: no right to list (DCS.4030)"),
        (
            Fault(Evidence.NEVER_SENT, Remedy.RETRY, CallStatus.CONNECTION_REFUSED, "no connection"),
            "unclear",
            "told: no connection",
        ),
    ],
)
async def test_what_is_seen_is_what_would_happen(sighting: Sighting | Fault, kind: str, words: str) -> None:
    """Each sighting has its verdict, which names the tasks."""
    client = FakeDcsClient(sighting)

    ((_, verdict),) = await _preview(client, parked_request())

    assert verdict.kind == kind
    assert words in verdict.text
    assert client.since == [parked_request().envelope.first_received_at]


async def test_what_need_not_be_looked_for_is_not() -> None:
    """No request, a region that is not configured, a worker that would not look either."""
    client = FakeDcsClient(Absent())
    elsewhere = parked_request(BODY.replace(b'"project_id"', b'"region": "far", "project_id"'))

    kinds = [verdict.kind for _, verdict in await _preview(client, parked_request(b"[]"), elsewhere)]
    ((_, off),) = await _preview(client, parked_request(), reconcile="off")

    assert (kinds, off.kind, client.since) == (["invalid", "unclear"], "unclear", [])


async def test_what_is_absent_may_have_to_wait_or_be_too_late() -> None:
    """A settle time that is owed is said; past its not_after nothing would be created."""
    client = FakeDcsClient(Absent())
    recent = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    late = json.dumps({"project_id": "p", "not_after": "2026-11-01T00:00:00Z", "task": TASK}).encode()

    ((_, owing),) = await _preview(client, parked_request(headers={**HEADERS, "x-last-sent-at": recent}))
    ((_, expired),) = await _preview(client, parked_request(late))

    assert owing.kind == "create"
    assert owing.text.endswith("s at the earliest")
    assert expired.kind == "expire"


async def test_many_are_looked_for_a_few_at_a_time_and_told_in_order() -> None:
    """The cloud is not flooded, and the lines come in the order of the queue."""
    client = FakeDcsClient(Absent())
    requests = [parked_request(BODY.replace(b'"r"', b'"r%d"' % number)) for number in range(50)]

    seen = await _preview(client, *requests)

    assert [one for one, _ in seen] == [f"r{number}" for number in range(50)]
    assert 1 < client.most_at_once <= MAX_CONCURRENT_LOOKUPS


class FakeEventStream:
    """Events that came in this order, and none after them."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = self._all(events)

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def _all(self, events: Sequence[Event]) -> AsyncIterator[Event]:
        for event in events:
            yield event
        await asyncio.Event().wait()


TIMES = {"received_at": "2026-11-01T08:00:00.000Z", "completed_at": "2026-11-01T10:00:00.000Z"}


def _failed(replays: int) -> Event:
    error = {"status": 403, "error_code": "DCS.4030"}
    body = {"request_id": "r", "project_id": "p", "reason": "forbidden", "message": "no", "error": error, **TIMES}
    headers = {"cloudEvents:id": identity.event_id("p", "r", FAILED_TYPE, replays)}
    return Event(FAILED_KEY, json.dumps(body).encode(), headers, None)


def _succeeded(request_id: str = "r") -> Event:
    body = {"request_id": request_id, "project_id": "p", "region": "x", "name": "n", "instance_id": "t1", **TIMES}
    return Event(SUCCEEDED_KEY, json.dumps(body | {"resolution": "adopted", "attempts": 1}).encode(), {}, None)


async def _outcomes(*events: Event) -> list[CanaryOutcome]:
    stream: Any = FakeEventStream(events)
    return await Canary([parked_request()]).outcomes(stream, timeout=0.05)


async def test_the_canary_hears_the_outcome_of_its_replay() -> None:
    """Strangers' events, other requests' and the failure of before the replay are not taken for it."""
    noise = (Event("x", b"[]", {}, None), _succeeded("other"), _failed(replays=0))

    assert await _outcomes(*noise, _succeeded()) == [CanaryOutcome("r", True, "adopted: t1")]
    assert await _outcomes(*noise, _failed(replays=1)) == [CanaryOutcome("r", False, "forbidden (DCS.4030): no")]
    assert await _outcomes(*noise) == [CanaryOutcome("r", False, "has no outcome after 0.05 s")]

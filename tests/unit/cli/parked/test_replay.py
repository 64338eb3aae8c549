"""Outcomes of the canary of a replay, read from events."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from schemas import identity
from schemas.event import FAILED_KEY, SUCCEEDED_KEY, MigrationFailed
from tests.unit.cli.parked.parked_messages import parked_request
from worker.cli.parked.replay import CanaryOutcome, canary_outcomes
from worker.rabbit.tools.event_stream import Event


class FakeEventStream:
    """Yields these events, and then none."""

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
    failure_id = identity.failure_id(MigrationFailed.model_validate(body), replays, parked_request().parked.body)
    headers = {"cloudEvents:id": failure_id}
    return Event(FAILED_KEY, json.dumps(body).encode(), headers, None)


def _succeeded(request_id: str = "r") -> Event:
    body = {"request_id": request_id, "project_id": "p", "region": "x", "name": "n", "instance_id": "t1", **TIMES}
    return Event(SUCCEEDED_KEY, json.dumps(body | {"resolution": "adopted", "attempts": 1}).encode(), {}, None)


async def _outcomes(*events: Event) -> list[CanaryOutcome]:
    stream: Any = FakeEventStream(events)
    return await canary_outcomes([parked_request()], stream, timeout=0.05)


async def test_canary_has_the_outcome_of_its_own_replay() -> None:
    """Invalid events, events of other requests and the failure before the replay are ignored."""
    noise = (Event("x", b"[]", {}, None), _succeeded("other"), _failed(replays=0))

    assert await _outcomes(*noise, _succeeded()) == [CanaryOutcome("r", True, "adopted: t1")]
    assert await _outcomes(*noise, _failed(replays=1)) == [CanaryOutcome("r", False, "forbidden (DCS.4030): no")]
    assert await _outcomes(*noise) == [CanaryOutcome("r", False, "no outcome after 0.05 s")]

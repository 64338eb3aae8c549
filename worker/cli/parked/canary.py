"""The canary of a replay: its first requests, whose outcomes are awaited before the others are sent."""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from schemas import identity
from schemas.client import read_event
from schemas.event import FAILED_TYPE, MigrationSucceeded
from worker.cli.parked.request import ParkedRequest
from worker.policy.migration_request import Key
from worker.rabbit.tools.event_stream import Event, EventStream

_CLOUDEVENTS_ID_HEADER = "cloudEvents:id"


@dataclass(frozen=True, slots=True)
class CanaryOutcome:
    """Outcome of one request of the canary."""

    id: str
    succeeded: bool
    text: str


class Canary:
    """Collects the events that answer the replays of `requests`."""

    def __init__(self, requests: Iterable[ParkedRequest]) -> None:
        parsed_requests = [
            (request.parsed, request.envelope.replays + 1) for request in requests if request.parsed is not None
        ]
        self._waiting: Mapping[Key, str] = {
            parsed.key: identity.event_id(parsed.project_id, parsed.request_id, FAILED_TYPE, replays)
            for parsed, replays in parsed_requests
        }
        self._outcomes: dict[Key, CanaryOutcome] = {}

    def __repr__(self) -> str:
        return f"<Canary: {len(self._outcomes)} of {len(self._waiting)}>"

    async def outcomes(self, events: EventStream, timeout: float) -> list[CanaryOutcome]:
        """The outcomes of all requests, at the latest after `timeout` seconds. Raises BrokerError."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while len(self._outcomes) < len(self._waiting):
                    self._on_event(await anext(events))
        for key in self._waiting:
            missing = CanaryOutcome(key[1], False, f"no outcome after {timeout:g} s")
            self._outcomes.setdefault(key, missing)
        return list(self._outcomes.values())

    def _on_event(self, event: Event) -> None:
        try:
            content = read_event(event.body)
        except ValueError:
            return  # not an event of the worker
        key = (content.project_id or "", content.request_id or "")
        if key not in self._waiting:
            return
        if isinstance(content, MigrationSucceeded):
            self._outcomes[key] = CanaryOutcome(key[1], True, f"{content.resolution}: {content.instance_id}")
        elif event.headers.get(_CLOUDEVENTS_ID_HEADER) == self._waiting[key]:  # an earlier failure has another id
            code = f" ({content.error.error_code})" if content.error and content.error.error_code else ""
            self._outcomes[key] = CanaryOutcome(key[1], False, f"{content.reason.value}{code}: {content.message}")

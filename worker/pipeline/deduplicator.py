"""Two live copies of one request are one: single flight, and a bounded memory of what became of requests.

Law 4, within one replica. An ending is remembered before it is published: its delivery may be lost
with its channel, and then this memory answers the redelivery. A request without an ending is remembered
too: what may have been sent for it may have been sent for a copy that comes while it waits in the broker.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from schemas.envelope import Envelope
from worker.policy.migration_request import Key, MigrationRequest
from worker.policy.outcome import Completed, Outcome


@dataclass(slots=True)
class InProgress:
    """A request that is being worked on; `landed` resolves to its outcome."""

    fingerprint: str
    finished: asyncio.Future[Outcome | None] = field(default_factory=asyncio.Future)
    since: float = field(default_factory=time.monotonic)
    """When it took off, for whoever shows its age."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A request that was worked on and has no ending yet."""

    fingerprint: str
    last_sent_at: float | None
    first_received_at: float


class Deduplicator:
    """Requests in flight, and of those before them the last `capacity` with an ending and without."""

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._in_progress: dict[Key, InProgress] = {}
        self._completed: OrderedDict[Key, Completed] = OrderedDict()
        self._unfinished: OrderedDict[Key, Unfinished] = OrderedDict()

    def __repr__(self) -> str:
        counts = f"{len(self._completed)} endings, {len(self._unfinished)} unfinished"
        return f"<Copies: {len(self._in_progress)} in flight, {counts}>"

    @property
    def all_in_progress(self) -> Mapping[Key, InProgress]:
        """The requests that are being worked on."""
        return self._in_progress

    def completed(self, migration: MigrationRequest, envelope: Envelope) -> Completed | None:
        """How the request ended, if that is remembered and no operator has sent it again since."""
        completed = self._completed.get(migration.key)
        if completed is None or is_outdated(completed, envelope):
            return None
        self._completed.move_to_end(migration.key)
        return completed

    def remember(self, migration: MigrationRequest, completed: Completed) -> None:
        """Keep the ending for later copies; the oldest is forgotten beyond the capacity."""
        self._unfinished.pop(migration.key, None)
        _keep(self._completed, migration.key, completed, self._capacity)

    def unfinished(self, migration: MigrationRequest) -> Unfinished | None:
        """What is known of the request if it was worked on before and has no ending."""
        return self._unfinished.get(migration.key)

    def in_progress(self, migration: MigrationRequest) -> InProgress | None:
        """The flight that another copy of the request is on."""
        return self._in_progress.get(migration.key)

    def start(self, migration: MigrationRequest) -> InProgress:
        """Begin to work on a request that nobody works on."""
        assert migration.key not in self._in_progress
        in_progress = self._in_progress[migration.key] = InProgress(migration.fingerprint)
        return in_progress

    def finish(self, migration: MigrationRequest, outcome: Outcome | None, unfinished: Unfinished) -> None:
        """The request's work is over for now; None: it failed in an unforeseen way."""
        if not isinstance(outcome, Completed):
            _keep(self._unfinished, migration.key, unfinished, self._capacity)
        self._in_progress.pop(migration.key).finished.set_result(outcome)


T = TypeVar("T")


def _keep(memory: OrderedDict[Key, T], key: Key, value: T, capacity: int) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > capacity:
        memory.popitem(last=False)


def is_outdated(completed: Completed, envelope: Envelope) -> bool:
    """Whether an operator has sent the request again since it failed so."""
    return not completed.succeeded and envelope.replays > completed.replays

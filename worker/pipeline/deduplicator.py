"""Deduplicator of one replica: one delivery at a time per request, and a bounded memory of outcomes.

Law `single-flight`. An outcome is remembered before it is published: if the delivery is lost with its channel, this
memory answers the redelivery. An unfinished request is remembered too: a create that may have been sent for it counts
for a copy that arrives while it waits in the broker.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from schemas.last_error import LastError
from worker.policy.migration_request import Key, MigrationRequest
from worker.policy.outcome import Completed, Outcome

RETURN_SECONDS = 5.0
"""From the end of a wait in a retry queue until the request is processed again, by this replica or another one."""


@dataclass(slots=True)
class InProgress:
    """A request in progress; `finished` resolves to its outcome."""

    fingerprint: str
    age_starts_at: float
    """Epoch seconds."""
    finished: asyncio.Future[Outcome | None] = field(default_factory=asyncio.Future)
    since: float = field(default_factory=time.monotonic)
    """When it started, on the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A request that was processed and has not ended."""

    fingerprint: str
    last_sent_at: float | None
    first_received_at: float
    waits_until: float = 0.0
    """Until then it is certainly unfinished; later, another replica may have processed it."""
    last_error: LastError | None = None
    open_until: float = 0.0
    """Until then no replica can have rejected it after a conflict."""

    def error_at(self, now: float, migration: MigrationRequest) -> LastError | None:
        """The last error, if it is of this request and still counts."""
        return self.last_error if now < self.open_until and self.fingerprint == migration.fingerprint else None


class Deduplicator:
    """Requests in progress, and the last `capacity` that have ended and that have not."""

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._in_progress: dict[Key, InProgress] = {}
        self._completed: OrderedDict[Key, Completed] = OrderedDict()
        self._unfinished: OrderedDict[Key, Unfinished] = OrderedDict()

    def __repr__(self) -> str:
        counts = f"{len(self._completed)} completed, {len(self._unfinished)} unfinished"
        return f"<Deduplicator: {len(self._in_progress)} in progress, {counts}>"

    @property
    def all_in_progress(self) -> Mapping[Key, InProgress]:
        """The requests in progress."""
        return self._in_progress

    def completed(self, migration: MigrationRequest) -> Completed | None:
        """Final outcome of the request, if it is remembered."""
        completed = self._completed.get(migration.key)
        if completed is not None:
            self._completed.move_to_end(migration.key)
        return completed

    def forget(self, migration: MigrationRequest) -> None:
        """The outcome answers no delivery any more: the request was sent anew, replayed or dropped."""
        self._completed.pop(migration.key, None)

    def remember(self, migration: MigrationRequest, completed: Completed) -> None:
        """Keep the final outcome for later copies; beyond the capacity the oldest is forgotten."""
        _keep(self._completed, migration.key, completed, self._capacity)

    def unfinished(self, migration: MigrationRequest) -> Unfinished | None:
        """What is known of the request if it was processed before and has not ended."""
        return self._unfinished.get(migration.key)

    def in_progress(self, migration: MigrationRequest) -> InProgress | None:
        """The copy of the request that is in progress."""
        return self._in_progress.get(migration.key)

    def start(self, migration: MigrationRequest, age_starts_at: float) -> InProgress:
        """Start a request that is not in progress."""
        assert migration.key not in self._in_progress
        in_progress = self._in_progress[migration.key] = InProgress(migration.fingerprint, age_starts_at)
        return in_progress

    def finish(self, migration: MigrationRequest, outcome: Outcome | None, unfinished: Unfinished) -> None:
        """The delivery has its outcome; None: it met a defect of the worker."""
        known = self._unfinished.get(migration.key)
        if isinstance(outcome, Completed) and known is not None and known.fingerprint == migration.fingerprint:
            del self._unfinished[migration.key]
        if not isinstance(outcome, Completed):
            _keep(self._unfinished, migration.key, unfinished, self._capacity)
        self._in_progress.pop(migration.key).finished.set_result(outcome)


T = TypeVar("T")


def _keep(memory: OrderedDict[Key, T], key: Key, value: T, capacity: int) -> None:
    memory[key] = value
    memory.move_to_end(key)
    if len(memory) > capacity:
        memory.popitem(last=False)

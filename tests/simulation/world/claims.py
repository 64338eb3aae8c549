"""Claims that the replicas share: leases and outcomes in one store, which can go away and forget.

The store answers as the scripts of the real claims do; how those reach Redis is not under proof.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.simulation.world.replica_context import ReplicaContext
from worker.policy.migration_request import Key, MigrationRequest
from worker.policy.outcome import ClaimAnswer, ClaimedElsewhere, Completed, Concluded, Granted, Unavailable

CLAIM_SECONDS: Final = 30.0
CERTAINLY_HELD_SECONDS: Final = 25.0
RENEWAL_SECONDS: Final = 10.0
MIN_MEMORY_AGE_SECONDS: Final = 600.0
"""Seconds for which a store that forgot is not believed that a request is new."""
COMMAND_TIMEOUT_SECONDS: Final = 0.3
"""Seconds after which a store that does not answer is given up."""


@dataclass(slots=True)
class ClaimRecord:
    """What the store knows of one request."""

    fingerprint: str
    owner: object | None = None
    expires_at: float = -math.inf
    last_sent_at: float | None = None
    ending: Completed | None = None


class ClaimStore:
    """The shared memory. Times are the run's, but `last_sent_at` is a replica's."""

    def __init__(self) -> None:
        self.records: dict[Key, ClaimRecord] = {}
        self.unavailable_until = -math.inf
        self.is_sound = True
        """It never went away nor forgot anything."""
        self._since = -math.inf

    def leave(self, until: float) -> None:
        """Be unreachable until then."""
        self.unavailable_until, self.is_sound = until, False

    def forget(self, now: float) -> None:
        """Lose everything."""
        self.records.clear()
        self._since, self.is_sound = now, False

    def take(self, migration: MigrationRequest, owner: object, now: float, wall: float, replays: int) -> ClaimAnswer:
        """Claim atomically. A lease that ran out says that its holder may have sent a create just now."""
        record = self.records.get(migration.key)
        if record is None:
            self.records[migration.key] = ClaimRecord(migration.fingerprint, owner, now + CLAIM_SECONDS)
            return Granted(is_first=now - self._since >= MIN_MEMORY_AGE_SECONDS)
        is_ours = record.fingerprint == migration.fingerprint
        if record.ending is not None and not (is_ours and _is_outdated(record.ending, replays)):
            return Concluded(record.ending)
        is_live = record.owner not in (None, owner) and record.expires_at > now
        if is_live or not is_ours:
            return ClaimedElsewhere(record.fingerprint)
        last = record.last_sent_at if record.owner is None and record.ending is None else wall
        record.owner, record.expires_at, record.ending = owner, now + CLAIM_SECONDS, None
        return Granted(is_first=False, last_sent_at=last)

    def conclude(self, migration: MigrationRequest, ending: Completed) -> Completed:
        """The first ending stays, unless it is a failure of fewer replays; the one that stands."""
        record = self.records.setdefault(migration.key, ClaimRecord(migration.fingerprint))
        known = record.ending
        if record.fingerprint != migration.fingerprint:
            return ending
        if known is None or (not known.succeeded and ending.replays > known.replays):
            record.ending, record.owner = ending, None
            return ending
        return known

    def release(self, migration: MigrationRequest, owner: object, last_sent_at: float | None) -> None:
        """Nobody works on the request for now."""
        record = self.records.setdefault(migration.key, ClaimRecord(migration.fingerprint))
        if record.ending is None and record.fingerprint == migration.fingerprint:
            record.last_sent_at = max((last_sent_at, record.last_sent_at), key=lambda time: time or -math.inf)
            if record.owner is owner:
                record.owner = None


def _is_outdated(ending: Completed, replays: int) -> bool:
    return not ending.succeeded and ending.replays < replays


class ReplicaClaims:
    """One life's access to the store."""

    def __init__(self, replica: ReplicaContext, store: ClaimStore) -> None:
        self._replica = replica
        self._store = store
        self._held: dict[Key, float] = {}
        """Until when each of our claims is surely ours."""
        self._writes: list[Callable[[], Completed | None]] = []

    async def take(self, migration: MigrationRequest, now: float, replays: int = 0) -> ClaimAnswer:
        """Ask for the request."""
        await self._replica.point("claim.before")
        if not await self._answers():
            return Unavailable()
        asked_at = self._replica.now
        answer = self._store.take(migration, self, asked_at, now, replays)
        self._replica.log("claim: %s", type(answer).__name__)
        if await self._replica.point("claim.after") == "claim-reply-lost":
            self._store.is_sound = False
            return Unavailable()
        if isinstance(answer, Granted):
            self._held[migration.key] = asked_at + CERTAINLY_HELD_SECONDS
            self._renew_later(migration)
        return answer

    def is_held(self, migration: MigrationRequest) -> bool:
        """Whether the lease runs, by this replica's own clock."""
        return self._held.get(migration.key, -math.inf) > self._replica.now

    async def conclude(self, migration: MigrationRequest, ending: Completed) -> Completed:
        """Store the ending; the one that stands."""
        self._held.pop(migration.key, None)
        return await self._write("conclude", lambda: self._store.conclude(migration, ending)) or ending

    async def release(self, migration: MigrationRequest, last_sent_at: float | None) -> None:
        """Give the claim up."""
        self._held.pop(migration.key, None)
        await self._write("release", lambda: self._store.release(migration, self, last_sent_at))

    def repeat_writes(self) -> None:
        """The store is back, or has forgotten: tell it again."""
        for write in self._writes:
            write()

    async def _write(self, what: str, write: Callable[[], Completed | None]) -> Completed | None:
        self._writes.append(write)
        await self._replica.point(f"{what}.before")
        standing = None
        if await self._answers():
            standing = write()
            self._replica.log("claim: %s", what)
        await self._replica.point(f"{what}.after")
        return standing

    async def _answers(self) -> bool:
        if self._replica.now >= self._store.unavailable_until:
            return True
        await asyncio.sleep(COMMAND_TIMEOUT_SECONDS)
        return False

    def _renew_later(self, migration: MigrationRequest) -> None:
        asyncio.get_running_loop().call_later(RENEWAL_SECONDS, self._renew, migration)

    def _renew(self, migration: MigrationRequest) -> None:
        now = self._replica.now
        if migration.key not in self._held:
            return
        if now >= self._store.unavailable_until:
            record = self._store.records.get(migration.key)
            is_forgotten = record is None
            record = self._store.records.setdefault(migration.key, ClaimRecord(migration.fingerprint, self))
            if record.owner is not self:
                del self._held[migration.key]
                return
            record.expires_at = now + CLAIM_SECONDS
            if not is_forgotten or self.is_held(migration):
                self._held[migration.key] = now + CERTAINLY_HELD_SECONDS
        self._renew_later(migration)

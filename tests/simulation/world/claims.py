"""Simulated claims: claims and outcomes that the replicas share, in a store that can be unavailable or emptied.

The store answers as the Lua scripts of the real claims do. The connection to Redis is not simulated.
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
"""Time after the store was emptied in which a request that it does not know is not taken for a new one."""
COMMAND_TIMEOUT_SECONDS: Final = 0.3
"""Timeout of a command to a store that does not answer."""


@dataclass(slots=True)
class ClaimRecord:
    """Entry of one request in the store."""

    fingerprint: str
    owner: object | None = None
    expires_at: float = -math.inf
    last_sent_at: float | None = None
    outcome: Completed | None = None


class ClaimStore:
    """The shared store. Times are virtual seconds, but `last_sent_at` is by the clock of a replica."""

    def __init__(self) -> None:
        self.records: dict[Key, ClaimRecord] = {}
        self.unavailable_until = -math.inf
        self.is_sound = True
        """It was always available and never emptied."""
        self._emptied_at = -math.inf

    def become_unavailable(self, until: float) -> None:
        """Be unavailable until this time."""
        self.unavailable_until, self.is_sound = until, False

    def empty(self, now: float) -> None:
        """Lose all entries."""
        self.records.clear()
        self._emptied_at, self.is_sound = now, False

    def take(
        self,
        migration: MigrationRequest,
        owner: object,
        now: float,
        epoch_now: float,
        replays: int,
        arrived_at: float | None,
    ) -> ClaimAnswer:
        """Claim a request. An expired claim means that its holder may have sent a create just now."""
        record = self.records.get(migration.key)
        if record is None:
            self.records[migration.key] = ClaimRecord(migration.fingerprint, owner, now + CLAIM_SECONDS)
            return Granted(is_first=now - self._emptied_at >= MIN_MEMORY_AGE_SECONDS, has_record=False)
        if record.outcome is not None:
            if record.outcome.answers(migration, replays, arrived_at):
                return Concluded(record.outcome)
            record = self.records[migration.key] = ClaimRecord(migration.fingerprint)
        is_ours = record.fingerprint == migration.fingerprint
        is_live = record.owner not in (None, owner) and record.expires_at > now
        if is_live or not is_ours:
            return ClaimedElsewhere(record.fingerprint)
        last = record.last_sent_at if record.owner is None else epoch_now
        record.owner, record.expires_at = owner, now + CLAIM_SECONDS
        return Granted(is_first=False, last_sent_at=last)

    def conclude(self, migration: MigrationRequest, outcome: Completed) -> Completed:
        """Store an outcome, and return the one that counts: the first that succeeded or is parked."""
        record = self.records.setdefault(migration.key, ClaimRecord(migration.fingerprint))
        stored = record.outcome
        if record.fingerprint != migration.fingerprint:
            return outcome
        if outcome.fingerprint != migration.fingerprint:  # a conflict
            self.records.pop(migration.key)
            return outcome
        is_older = stored is not None and not outcome.succeeded and outcome.completed_at < stored.completed_at
        if stored is None or not (stored.succeeded or stored.parked or is_older):
            record.outcome, record.owner = outcome, None
            return outcome
        return stored

    def release(self, migration: MigrationRequest, owner: object, last_sent_at: float | None) -> None:
        """Release the claim."""
        record = self.records.setdefault(migration.key, ClaimRecord(migration.fingerprint))
        if record.outcome is None and record.fingerprint == migration.fingerprint:
            record.last_sent_at = max((last_sent_at, record.last_sent_at), key=lambda time: time or -math.inf)
            if record.owner is owner:
                record.owner = None


class ReplicaClaims:
    """Access of one process of a replica to the store."""

    def __init__(self, replica: ReplicaContext, claim_store: ClaimStore) -> None:
        self._replica = replica
        self._claim_store = claim_store
        self._held: dict[Key, float] = {}
        """Until when each claim is certainly ours."""
        self._writes: list[Callable[[], Completed | None]] = []

    async def take(
        self, migration: MigrationRequest, now: float, replays: int = 0, arrived_at: float | None = None
    ) -> ClaimAnswer:
        """Claim a request."""
        await self._replica.point("claim.before")
        if not await self._answers():
            return Unavailable()
        asked_at = self._replica.now
        answer = self._claim_store.take(migration, self, asked_at, now, replays, arrived_at)
        self._replica.log("claim: %s", type(answer).__name__)
        if await self._replica.point("claim.after") == "claim-reply-lost":
            self._claim_store.is_sound = False
            return Unavailable()
        if isinstance(answer, Granted):
            self._held[migration.key] = asked_at + CERTAINLY_HELD_SECONDS
            self._renew_later(migration)
        return answer

    def is_held(self, migration: MigrationRequest) -> bool:
        """Whether the claim is certainly ours."""
        return self._held.get(migration.key, -math.inf) > self._replica.now

    async def conclude(self, migration: MigrationRequest, outcome: Completed) -> Completed:
        """Store the outcome, and return the one that counts."""
        self._held.pop(migration.key, None)
        return await self._write("conclude", lambda: self._claim_store.conclude(migration, outcome)) or outcome

    async def release(self, migration: MigrationRequest, last_sent_at: float | None) -> None:
        """Release the claim."""
        self._held.pop(migration.key, None)
        await self._write("release", lambda: self._claim_store.release(migration, self, last_sent_at))

    def repeat_writes(self) -> None:
        """Repeat all writes to a store that is back or was emptied."""
        for write in self._writes:
            write()

    async def _write(self, what: str, write: Callable[[], Completed | None]) -> Completed | None:
        self._writes.append(write)
        await self._replica.point(f"{what}.before")
        stored = None
        if await self._answers():
            stored = write()
            self._replica.log("claim: %s", what)
        await self._replica.point(f"{what}.after")
        return stored

    async def _answers(self) -> bool:
        if self._replica.now >= self._claim_store.unavailable_until:
            return True
        await asyncio.sleep(COMMAND_TIMEOUT_SECONDS)
        return False

    def _renew_later(self, migration: MigrationRequest) -> None:
        asyncio.get_running_loop().call_later(RENEWAL_SECONDS, self._renew, migration)

    def _renew(self, migration: MigrationRequest) -> None:
        now = self._replica.now
        if migration.key not in self._held:
            return
        if now >= self._claim_store.unavailable_until:
            record = self._claim_store.records.get(migration.key)
            is_forgotten = record is None
            record = self._claim_store.records.setdefault(migration.key, ClaimRecord(migration.fingerprint, self))
            if record.owner is not self:
                del self._held[migration.key]
                return
            record.expires_at = now + CLAIM_SECONDS
            if not is_forgotten or self.is_held(migration):
                self._held[migration.key] = now + CERTAINLY_HELD_SECONDS
        self._renew_later(migration)

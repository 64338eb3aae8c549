"""Simulated claims: claims and outcomes that the replicas share, in a store that can be unavailable or emptied.

The store answers as the Lua scripts of the real claims do. The connection to Redis is not simulated.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from schemas.envelope import Envelope
from schemas.last_error import LastError
from tests.simulation.scenario.plan import CREATE_DEADLINE_SECONDS
from tests.simulation.world.replica_context import ReplicaContext
from worker.policy.migration_request import Key, MigrationRequest
from worker.policy.outcome import ClaimAnswer, ClaimedElsewhere, Completed, Concluded, Granted, Unavailable

CLAIM_SECONDS: Final = {"look": 30.0, "pause": 45.0}
"""By what a replica does that cannot reach the claims. A third of it passes between two renewals, and a claim is
certain for five sixths of it."""
MIN_MEMORY_AGE_SECONDS: Final = 600.0
"""Time after the store was emptied in which a request that it does not know is not taken for a new one."""
COMMAND_TIMEOUT_SECONDS: Final = 0.3
"""Timeout of a command to a store that does not answer."""
NOTICED_AFTER_SECONDS: Final = 1.6
"""Time after which an idle replica knows that it cannot reach the store."""
RECONNECTED_AFTER_SECONDS: Final = 0.8
ROUNDING_SECONDS: Final = 1e-3
"""By so much later a timer that waits for a time certainly finds it over."""


@dataclass(slots=True)
class ClaimRecord:
    """Entry of one request in the store."""

    fingerprint: str
    owner: object | None = None
    expires_at: float = -math.inf
    last_sent_at: float | None = None
    conflict: LastError | None = None
    outcome: Completed | None = None


class ClaimStore:
    """The shared store. Times are virtual seconds, but `last_sent_at` is by the clock of a replica."""

    def __init__(self, claims_away: Literal["look", "pause"]) -> None:
        self.records: dict[Key, ClaimRecord] = {}
        self.is_sound = True
        """It was always available and never emptied."""
        self.are_claims_common = True
        """No create began without a claim that all replicas know."""
        self.claim_seconds = CLAIM_SECONDS[claims_away]
        self.pauses = claims_away == "pause"
        self._away: dict[str, tuple[float, float]] = {}
        self.emptied_at: list[float] = []
        """When it lost its entries."""

    def away(self, replica: str) -> tuple[float, float]:
        """From when and until when a replica cannot reach it, the last time."""
        return self._away.get(replica, (-math.inf, -math.inf))

    def become_unavailable(self, replica: str, now: float, until: float) -> None:
        """Be unavailable for a replica until this time."""
        since, before = self.away(replica)
        self._away[replica] = (since if before > now else now, max(before, until))
        self.lose_reply()

    def lose_reply(self) -> None:
        """A replica does not know whether it has a claim, or the store does not."""
        self.is_sound = False
        self.are_claims_common = self.are_claims_common and self.pauses

    def empty(self, now: float) -> None:
        """Lose all entries."""
        self.records.clear()
        self.emptied_at.append(now)
        self.lose_reply()

    def take(
        self,
        migration: MigrationRequest,
        owner: object,
        now: float,
        epoch_now: float,
        envelope: Envelope,
    ) -> ClaimAnswer:
        """Claim a request. An expired claim means that its holder may have sent a create just now."""
        record = self.records.get(migration.key)
        if record is None:
            self.records[migration.key] = ClaimRecord(migration.fingerprint, owner, now + self.claim_seconds)
            age = now - (self.emptied_at[-1] if self.emptied_at else -math.inf)
            if age < MIN_MEMORY_AGE_SECONDS and self.pauses:
                forgotten = CREATE_DEADLINE_SECONDS + self.claim_seconds / 3
                return Granted(is_first=False, last_sent_at=epoch_now - age + forgotten, has_record=False)
            return Granted(is_first=age >= MIN_MEMORY_AGE_SECONDS, has_record=False)
        if record.outcome is not None:
            if record.outcome.answers(migration, envelope):
                return Concluded(record.outcome)
            sent = record.last_sent_at and min(record.last_sent_at, epoch_now)
            record = self.records[migration.key] = ClaimRecord(migration.fingerprint, last_sent_at=sent)
        is_ours = record.fingerprint == migration.fingerprint
        is_live = record.owner not in (None, owner) and record.expires_at > now
        if is_live or not is_ours:
            return ClaimedElsewhere(record.fingerprint)
        last = record.last_sent_at if record.owner is None else epoch_now
        record.owner, record.expires_at = owner, now + self.claim_seconds
        return Granted(is_first=False, last_sent_at=last, last_error=record.conflict)

    def conclude(self, migration: MigrationRequest, owner: object, outcome: Completed, clock_ahead: float) -> Completed:
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
            if record.owner not in (None, owner):
                record.last_sent_at = max(record.last_sent_at or -math.inf, record.expires_at + clock_ahead)
            record.outcome, record.owner = outcome, None
            return outcome
        return stored

    def release(
        self, migration: MigrationRequest, owner: object, last_sent_at: float | None, last_error: LastError | None
    ) -> None:
        """Release the claim."""
        record = self.records.setdefault(migration.key, ClaimRecord(migration.fingerprint))
        if record.fingerprint == migration.fingerprint:
            record.last_sent_at = max((last_sent_at, record.last_sent_at), key=lambda time: time or -math.inf)
        if record.outcome is None and record.fingerprint == migration.fingerprint:
            record.conflict = last_error if last_error is not None and last_error.is_conflict else record.conflict
            if record.owner is owner:
                record.owner = None


class ReplicaClaims:
    """Access of one process of a replica to the store."""

    def __init__(self, replica: ReplicaContext, claim_store: ClaimStore, prefetch: int) -> None:
        self._replica = replica
        self._claim_store = claim_store
        self._held: dict[Key, float] = {}
        """Until when each claim is certainly ours."""
        self._late_reports: deque[Callable[[], object]] = deque(maxlen=prefetch if claim_store.pauses else 0)
        self._away_until = -math.inf
        """Until when a failed command keeps it from the store."""

    @property
    def is_available(self) -> bool:
        """Whether the store can be asked, as far as the replica knows."""
        since, until = self._claim_store.away(self._replica.name)
        is_away = since + NOTICED_AFTER_SECONDS <= self._replica.now < until + RECONNECTED_AFTER_SECONDS
        return not is_away and self._replica.now >= self._away_until

    async def take(self, migration: MigrationRequest, now: float, envelope: Envelope) -> ClaimAnswer:
        """Claim a request."""
        await self._replica.point("claim.before")
        if not await self._answers():
            return Unavailable()
        asked_at = self._replica.now
        answer = self._claim_store.take(migration, self, asked_at, now, envelope)
        self._replica.log("claim: %s", type(answer).__name__)
        if await self._replica.point("claim.after") == "claim-reply-lost":
            self._claim_store.lose_reply()
            self._reconnect_later(self._replica.now)
            return Unavailable()
        if isinstance(answer, Granted):
            self._held[migration.key] = asked_at + self._claim_store.claim_seconds * 5 / 6
            self._renew_later(migration)
        return answer

    def is_claimed(self, migration: MigrationRequest) -> bool:
        """Whether the store is there, and the claim certainly ours."""
        return self.is_available and self._is_certain(migration)

    async def conclude(self, migration: MigrationRequest, outcome: Completed) -> Completed:
        """Store the outcome, and return the one that counts."""
        self._held.pop(migration.key, None)
        ahead = self._replica.epoch_now() - self._replica.now
        conclude = partial(self._claim_store.conclude, migration, self, outcome, ahead)
        return await self._write("conclude", conclude) or outcome

    async def release(
        self, migration: MigrationRequest, last_sent_at: float | None, last_error: LastError | None = None
    ) -> None:
        """Release the claim."""
        self._held.pop(migration.key, None)
        await self._write("release", lambda: self._claim_store.release(migration, self, last_sent_at, last_error))

    def reconnected(self) -> None:
        """The store is back: tell it what it did not hear."""
        if self.is_available:
            for write in self._late_reports:
                write()
            self._late_reports.clear()

    async def _write(self, what: str, write: Callable[[], Completed | None]) -> Completed | None:
        await self._replica.point(f"{what}.before")
        stored = None
        if await self._answers():
            stored = write()
            self._replica.log("claim: %s", what)
        else:
            self._late_reports.append(write)
        await self._replica.point(f"{what}.after")
        return stored

    async def _answers(self) -> bool:
        """Whether the store answers a command; without an answer it counts as away until the next connection."""
        if not self.is_available:
            return False
        since, until = self._claim_store.away(self._replica.name)
        if not since <= self._replica.now < until:
            return True
        await asyncio.sleep(COMMAND_TIMEOUT_SECONDS)
        self._reconnect_later(until)
        return False

    def _reconnect_later(self, until: float) -> None:
        self._away_until = max(self._replica.now, until) + RECONNECTED_AFTER_SECONDS
        wait = self._away_until - self._replica.now + ROUNDING_SECONDS
        asyncio.get_running_loop().call_later(wait, self._replica.claims_back)

    def _is_certain(self, migration: MigrationRequest) -> bool:
        return self._held.get(migration.key, -math.inf) > self._replica.now

    def _renew_later(self, migration: MigrationRequest) -> None:
        asyncio.get_running_loop().call_later(self._claim_store.claim_seconds / 3, self._renew, migration)

    def _renew(self, migration: MigrationRequest) -> None:
        now, store = self._replica.now, self._claim_store
        if migration.key not in self._held:
            return
        since, until = store.away(self._replica.name)
        if self.is_available and not since <= now < until:
            record = store.records.get(migration.key)
            is_forgotten = record is None
            record = store.records.setdefault(migration.key, ClaimRecord(migration.fingerprint, self))
            if record.owner is not self:
                del self._held[migration.key]
                return
            record.expires_at = now + store.claim_seconds
            if not is_forgotten or self._is_certain(migration):
                self._held[migration.key] = now + store.claim_seconds * 5 / 6
        self._renew_later(migration)

"""Claims that the replicas share: leases and outcomes in one store, which can go away and forget.

The store answers as the scripts of the real claims do; how those reach Redis is not under proof.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.simulation.world.stage import Stage
from worker.policy.migration_request import Key, MigrationRequest
from worker.policy.outcome import ClaimAnswer, ClaimedElsewhere, Completed, Concluded, Granted, Unavailable

LEASE: Final = 30.0
SURE: Final = 25.0
RENEWED_EVERY: Final = 10.0
DOUBT: Final = 600.0
"""Seconds for which a store that forgot is not believed that a request is new."""
ASKED_FOR: Final = 0.3
"""Seconds after which a store that does not answer is given up."""


@dataclass(slots=True)
class Record:
    """What the store knows of one request."""

    fingerprint: str
    owner: object | None = None
    expires: float = -math.inf
    last_sent_at: float | None = None
    ending: Completed | None = None


class Store:
    """The shared memory. Times are the run's, but `last_sent_at` is a replica's."""

    def __init__(self) -> None:
        self.records: dict[Key, Record] = {}
        self.away_until = -math.inf
        self.is_sound = True
        """It never went away nor forgot anything."""
        self._since = -math.inf

    def leave(self, until: float) -> None:
        """Be unreachable until then."""
        self.away_until, self.is_sound = until, False

    def forget(self, now: float) -> None:
        """Lose everything."""
        self.records.clear()
        self._since, self.is_sound = now, False

    def take(self, migration: MigrationRequest, owner: object, now: float, wall: float, replays: int) -> ClaimAnswer:
        """Claim atomically. A lease that ran out says that its holder may have sent a create just now."""
        record = self.records.get(migration.key)
        if record is None:
            self.records[migration.key] = Record(migration.fingerprint, owner, now + LEASE)
            return Granted(is_first=now - self._since >= DOUBT)
        is_ours = record.fingerprint == migration.fingerprint
        if record.ending is not None and not (is_ours and _is_outdated(record.ending, replays)):
            return Concluded(record.ending)
        is_live = record.owner not in (None, owner) and record.expires > now
        if is_live or not is_ours:
            return ClaimedElsewhere(record.fingerprint)
        last = record.last_sent_at if record.owner is None and record.ending is None else wall
        record.owner, record.expires, record.ending = owner, now + LEASE, None
        return Granted(is_first=False, last_sent_at=last)

    def conclude(self, migration: MigrationRequest, ending: Completed) -> Completed:
        """The first ending stays, unless it is a failure of fewer replays; the one that stands."""
        record = self.records.setdefault(migration.key, Record(migration.fingerprint))
        known = record.ending
        if record.fingerprint != migration.fingerprint:
            return ending
        if known is None or (not known.succeeded and ending.replays > known.replays):
            record.ending, record.owner = ending, None
            return ending
        return known

    def release(self, migration: MigrationRequest, owner: object, last_sent_at: float | None) -> None:
        """Nobody works on the request for now."""
        record = self.records.setdefault(migration.key, Record(migration.fingerprint))
        if record.ending is None and record.fingerprint == migration.fingerprint:
            record.last_sent_at = max((last_sent_at, record.last_sent_at), key=lambda time: time or -math.inf)
            if record.owner is owner:
                record.owner = None


def _is_outdated(ending: Completed, replays: int) -> bool:
    return not ending.succeeded and ending.replays < replays


class Claims:
    """One life's access to the store."""

    def __init__(self, stage: Stage, store: Store) -> None:
        self._stage = stage
        self._store = store
        self._held: dict[Key, float] = {}
        """Until when each of our claims is surely ours."""
        self._told: list[Callable[[], Completed | None]] = []

    async def take(self, migration: MigrationRequest, now: float, replays: int = 0) -> ClaimAnswer:
        """Ask for the request."""
        await self._stage.point("take.before")
        if not await self._answers():
            return Unavailable()
        asked_at = self._stage.now
        answer = self._store.take(migration, self, asked_at, now, replays)
        self._stage.say("claim: %s", type(answer).__name__)
        if await self._stage.point("take.after") == "claim-unheard":
            self._store.is_sound = False
            return Unavailable()
        if isinstance(answer, Granted):
            self._held[migration.key] = asked_at + SURE
            self._renew_later(migration)
        return answer

    def is_held(self, migration: MigrationRequest) -> bool:
        """Whether the lease runs, by this replica's own clock."""
        return self._held.get(migration.key, -math.inf) > self._stage.now

    async def conclude(self, migration: MigrationRequest, ending: Completed) -> Completed:
        """Store the ending; the one that stands."""
        self._held.pop(migration.key, None)
        return await self._tell("conclude", lambda: self._store.conclude(migration, ending)) or ending

    async def release(self, migration: MigrationRequest, last_sent_at: float | None) -> None:
        """Give the claim up."""
        self._held.pop(migration.key, None)
        await self._tell("release", lambda: self._store.release(migration, self, last_sent_at))

    def retell(self) -> None:
        """The store is back, or has forgotten: tell it again."""
        for tell in self._told:
            tell()

    async def _tell(self, what: str, tell: Callable[[], Completed | None]) -> Completed | None:
        self._told.append(tell)
        await self._stage.point(f"{what}.before")
        standing = None
        if await self._answers():
            standing = tell()
            self._stage.say("claim: %s", what)
        await self._stage.point(f"{what}.after")
        return standing

    async def _answers(self) -> bool:
        if self._stage.now >= self._store.away_until:
            return True
        await asyncio.sleep(ASKED_FOR)
        return False

    def _renew_later(self, migration: MigrationRequest) -> None:
        asyncio.get_running_loop().call_later(RENEWED_EVERY, self._renew, migration)

    def _renew(self, migration: MigrationRequest) -> None:
        now = self._stage.now
        if migration.key not in self._held:
            return
        if now >= self._store.away_until:
            record = self._store.records.get(migration.key)
            is_forgotten = record is None
            record = self._store.records.setdefault(migration.key, Record(migration.fingerprint, self))
            if record.owner is not self:
                del self._held[migration.key]
                return
            record.expires = now + LEASE
            if not is_forgotten or self.is_held(migration):
                self._held[migration.key] = now + SURE
        self._renew_later(migration)

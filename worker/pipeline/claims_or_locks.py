"""Claims while the claims are away: a lock on the broker keeps two replicas from one request at the same moment.

It remembers nothing, so every create is still preceded by a look-up; but two copies of one request no longer
look at the same moment, find nothing both, and create both. Claims that were granted right before may still have
a create in flight, which no lock knows: until those must have ended, whatever comes waits and settles.
"""

import time
from collections.abc import Callable
from typing import Protocol

from worker.pipeline.ports import Claims
from worker.policy.claim import ClaimAnswer, ClaimedElsewhere, Unavailable
from worker.policy.migration_request import Key, MigrationRequest
from worker.policy.outcome import Completed


class Locks(Protocol):
    """Locks that the broker keeps for as long as this replica's deliveries are its own."""

    async def take(self, key: Key) -> bool:
        """Whether the lock is this replica's now; False also where that is unknown."""
        ...

    async def free(self, key: Key) -> None:
        """Give the lock back."""
        ...


class ClaimsOrLocks:
    """The claims, and locks in their place while they cannot be asked.

    `quiet`: seconds after which a create that began under a claim has surely ended.
    """

    def __init__(
        self, claims: Claims, locks: Locks, *, quiet: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._claims = claims
        self._locks = locks
        self._quiet = quiet
        self._clock = clock
        self._away_since: float | None = None
        self._locked: set[Key] = set()

    def __repr__(self) -> str:
        return f"<ClaimsOrLocks: {self._claims!r}, {len(self._locked)} locks>"

    async def take(self, migration: MigrationRequest, now: float, replays: int = 0) -> ClaimAnswer:
        """Ask for the request; without an answer, lock it."""
        answer = await self._claims.take(migration, now, replays)
        if not isinstance(answer, Unavailable):
            self._away_since = None
            return answer
        if self._away_since is None:
            self._away_since = self._clock()
        if self._clock() - self._away_since < self._quiet or not await self._locks.take(migration.key):
            # What was asked for is not worked on here, so it must not be kept for this replica either.
            await self._claims.release(migration, None)
            return ClaimedElsewhere(migration.fingerprint, is_last_send_unknown=True)
        self._locked.add(migration.key)
        return answer

    def is_held(self, migration: MigrationRequest) -> bool:
        """Whether the granted claim is still surely ours; a lock alone is none."""
        return self._claims.is_held(migration)

    async def conclude(self, migration: MigrationRequest, completed: Completed) -> Completed:
        """Store how the request ended, and give claim and lock up; the ending that stands."""
        standing = await self._claims.conclude(migration, completed)
        await self._free(migration)
        return standing

    async def release(self, migration: MigrationRequest, last_sent_at: float | None) -> None:
        """Give claim and lock up."""
        await self._claims.release(migration, last_sent_at)
        await self._free(migration)

    async def _free(self, migration: MigrationRequest) -> None:
        if migration.key in self._locked:
            self._locked.discard(migration.key)
            await self._locks.free(migration.key)

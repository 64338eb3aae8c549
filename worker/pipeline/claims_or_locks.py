"""Claims in Redis, and locks on the broker in their place while Redis does not answer.

A lock remembers nothing, so every create is still preceded by a look-up; but two copies of one request can not look
at the same moment, both find nothing and both create. A claim that was granted right before may still have a create
in flight, which no lock knows: until that must have ended, every request waits for the listing delay.
"""

import time
from collections.abc import Callable
from typing import Protocol

from worker.pipeline.ports import Claims
from worker.policy.migration_request import Key, MigrationRequest
from worker.policy.outcome import ClaimAnswer, ClaimedElsewhere, Completed, Unavailable


class Locks(Protocol):
    """Locks that the broker keeps while this replica owns its deliveries."""

    async def take(self, key: Key) -> bool:
        """Whether the lock is ours now; False if that is unknown."""

    async def free(self, key: Key) -> None:
        """Release the lock."""


class ClaimsOrLocks:
    """The claims, and locks in their place while Redis does not answer.

    `quiet`: seconds after which a create that started under a claim has certainly ended.
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

    async def take(
        self, migration: MigrationRequest, now: float, replays: int = 0, arrived_at: float | None = None
    ) -> ClaimAnswer:
        """Ask for the request; without an answer, lock it."""
        answer = await self._claims.take(migration, now, replays, arrived_at)
        if not isinstance(answer, Unavailable):
            self._away_since = None
            return answer
        if self._away_since is None:
            self._away_since = self._clock()
        if self._clock() - self._away_since < self._quiet or not await self._locks.take(migration.key):
            # The request is not processed here, so Redis must not keep it for this replica.
            await self._claims.release(migration, None)
            return ClaimedElsewhere(migration.fingerprint, is_last_send_unknown=True)
        self._locked.add(migration.key)
        return answer

    def is_held(self, migration: MigrationRequest) -> bool:
        """Whether the granted claim is certainly still ours; a lock is no claim."""
        return self._claims.is_held(migration)

    async def conclude(self, migration: MigrationRequest, completed: Completed) -> Completed:
        """Store the outcome, and release claim and lock. Returns the outcome that counts."""
        standing = await self._claims.conclude(migration, completed)
        await self._free(migration)
        return standing

    async def release(self, migration: MigrationRequest, last_sent_at: float | None) -> None:
        """Release claim and lock."""
        await self._claims.release(migration, last_sent_at)
        await self._free(migration)

    async def _free(self, migration: MigrationRequest) -> None:
        if migration.key in self._locked:
            self._locked.discard(migration.key)
            await self._locks.free(migration.key)

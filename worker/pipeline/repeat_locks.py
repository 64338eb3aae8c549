"""Locks for repeated requests, without claims or while Redis is away: one replica at a time processes a repeat.

A worker that dies between the confirmed copy of a request and the acknowledgement of the original, or a broker that
dies before it stored the acknowledgement, leaves two copies. A look-up precedes each create, but two look-ups at the
same moment would both find nothing. So a repeat is processed under a lock, and the lock of one that may have created
is kept until its task must be listed. First deliveries, which are nearly all, cost nothing.
"""

import asyncio
from typing import Protocol

from schemas.envelope import Envelope
from schemas.last_error import LastError
from worker.policy.migration_request import Key, MigrationRequest
from worker.policy.outcome import ClaimedElsewhere, Completed, Unavailable


class Locks(Protocol):
    """Locks that the broker keeps while this replica owns its deliveries."""

    async def take(self, key: Key) -> bool:
        """Whether the lock is ours now; False if that is unknown."""

    async def free(self, key: Key) -> None:
        """Release the lock."""


class RepeatLocks:
    """Locks with the interface of claims; they remember nothing. `settle`: listing delay in seconds."""

    def __init__(self, locks: Locks, *, settle: float) -> None:
        self._locks = locks
        self._settle = settle
        self._taken_at: dict[Key, float] = {}
        self._kept: dict[Key, asyncio.TimerHandle] = {}
        self._freeing: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<RepeatLocks: {len(self._taken_at)} in use, {len(self._kept)} kept>"

    async def take(self, migration: MigrationRequest, now: float, envelope: Envelope) -> ClaimedElsewhere | Unavailable:
        """Lock the request; its history stays unknown."""
        if (kept := self._kept.pop(migration.key, None)) is not None:
            kept.cancel()
        if not await self._locks.take(migration.key):
            return ClaimedElsewhere(migration.fingerprint, is_last_send_unknown=True)
        self._taken_at[migration.key] = now
        return Unavailable()

    def is_claimed(self, migration: MigrationRequest) -> bool:
        """Whether the lock is ours. It is lost only with the channel of the delivery."""
        return migration.key in self._taken_at

    async def conclude(self, migration: MigrationRequest, completed: Completed) -> Completed:
        """Release the lock, or keep it until the created task must be listed."""
        await self._give_back(migration.key, may_have_created=completed.reason == "created")
        return completed

    async def release(
        self, migration: MigrationRequest, last_sent_at: float | None, last_error: LastError | None = None
    ) -> None:
        """Release the lock, or keep it until a task that may have been created must be listed."""
        taken_at = self._taken_at.get(migration.key, 0.0)
        await self._give_back(migration.key, may_have_created=last_sent_at is not None and last_sent_at >= taken_at)

    async def _give_back(self, key: Key, *, may_have_created: bool) -> None:
        if self._taken_at.pop(key, None) is None:
            return
        if may_have_created:
            self._kept[key] = asyncio.get_running_loop().call_later(self._settle, self._let_go, key)
        else:
            await self._locks.free(key)

    def _let_go(self, key: Key) -> None:
        del self._kept[key]
        freeing = asyncio.get_running_loop().create_task(self._locks.free(key))
        self._freeing.add(freeing)
        freeing.add_done_callback(self._freeing.discard)

"""Claims while the claims are away: a lock on the broker keeps two replicas from one request at the same moment.

It remembers nothing, so every create is still preceded by a look-up; but two copies of one request no longer
look at the same moment, find nothing both, and create both. Claims that were granted right before may still have
a create in flight, which no lock knows: until those must have ended, whatever comes waits and settles.
"""

import time
from collections.abc import Callable
from typing import Protocol

from worker.flow.ports import Claims
from worker.policy.claim import ClaimAnswer, Held, Unavailable
from worker.policy.order import Key, Order
from worker.policy.outcome import Ending


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

    async def take(self, order: Order, now: float, replays: int = 0) -> ClaimAnswer:
        """Ask for the request; without an answer, lock it."""
        answer = await self._claims.take(order, now, replays)
        if not isinstance(answer, Unavailable):
            self._away_since = None
            return answer
        if self._away_since is None:
            self._away_since = self._clock()
        if self._clock() - self._away_since < self._quiet or not await self._locks.take(order.key):
            # What was asked for is not worked on here, so it must not be kept for this replica either.
            await self._claims.release(order, None)
            return Held(order.fingerprint, is_forgetful=True)
        self._locked.add(order.key)
        return answer

    def is_held(self, order: Order) -> bool:
        """Whether the granted claim is still surely ours; a lock alone is none."""
        return self._claims.is_held(order)

    async def conclude(self, order: Order, ending: Ending) -> Ending:
        """Store how the request ended, and give claim and lock up; the ending that stands."""
        standing = await self._claims.conclude(order, ending)
        await self._free(order)
        return standing

    async def release(self, order: Order, last_sent_at: float | None) -> None:
        """Give claim and lock up."""
        await self._claims.release(order, last_sent_at)
        await self._free(order)

    async def _free(self, order: Order) -> None:
        if order.key in self._locked:
            self._locked.discard(order.key)
            await self._locks.free(order.key)

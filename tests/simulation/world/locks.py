"""Locks of the broker: each is one channel's, and gone with it."""

from collections.abc import Callable

from tests.simulation.world.broker import Broker, Channel
from tests.simulation.world.replica_context import ReplicaContext
from worker.policy.migration_request import Key


class ReplicaLocks:
    """One replica's access to the locks. Unknown is not free."""

    def __init__(self, replica: ReplicaContext, broker: Broker, channel: Callable[[], Channel]) -> None:
        self._replica = replica
        self._broker = broker
        self._channel = channel

    async def take(self, key: Key) -> bool:
        """False if another replica has the lock."""
        await self._replica.point("lock.before")
        channel = self._channel()
        costs_nothing = channel.is_open and self._broker.locks.setdefault(key, channel) is channel
        self._replica.log("lock: %s", "taken" if costs_nothing else "refused")
        await self._replica.point("lock.after")
        return costs_nothing

    async def free(self, key: Key) -> None:
        """Give the lock back."""
        await self._replica.point("unlock.before")
        if self._broker.locks.get(key) is self._channel():
            del self._broker.locks[key]
        await self._replica.point("unlock.after")

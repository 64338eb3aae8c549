"""Locks as exclusive queues: declared by one connection, refused to every other, gone with the connection.

They live on the consuming connection, so a lock is lost exactly when the deliveries are
(https://www.rabbitmq.com/docs/queues#exclusive-queues).
"""

import hashlib

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelLockedResource

from worker.rabbit.connect import RPC_DEADLINE, open_channel


class BrokerLocks:
    """Locks for requests of the queue `queue`. Nothing raises: what cannot be told is no obstacle."""

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self.connection: AbstractConnection | None = None
        """The consuming connection, while there is one."""

    def __repr__(self) -> str:
        return f"<BrokerLocks: {'usable' if self.connection else 'away'}>"

    async def take(self, key: tuple[str, str]) -> bool:
        """False if another connection has the lock; True also if it cannot be told."""
        if self.connection is None:
            return True
        try:
            async with open_channel(self.connection) as channel:
                await channel.queue_declare(self._name(key), exclusive=True, timeout=RPC_DEADLINE)
        except ChannelLockedResource:
            return False
        except Exception:  # noqa: BLE001 - no broker, no right to declare: as without locks
            return True
        return True

    async def free(self, key: tuple[str, str]) -> None:
        """Give the lock back."""
        if self.connection is None:
            return
        try:
            async with open_channel(self.connection) as channel:
                await channel.queue_delete(self._name(key), timeout=RPC_DEADLINE)
        except Exception:  # noqa: BLE001 - it is gone with its connection at the latest
            return

    def _name(self, key: tuple[str, str]) -> str:
        return f"{self._queue}.lock.{hashlib.sha256('/'.join(key).encode()).hexdigest()[:32]}"

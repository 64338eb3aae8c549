"""Supervisor of one connection to the broker: sessions one after another, with backoff between them."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from aio_pika.abc import AbstractConnection

from worker.policy import backoff
from worker.rabbit.connection import Brokers, ConnectionLostError, connected, connection_loss_as_error
from worker.rabbit.topology import TopologyError

STEADY_SESSION_SECONDS: Final = 30.0
"""A session that lasted this long was a good one; shorter ones count as failures in a row."""


class BrokerLostError(Exception):
    """No steady session for longer than allowed: the process ends, and the orchestrator starts another one."""


class ConnectionObserver(Protocol):
    """Receives when a connection comes up or goes down."""

    def link_up(self, link: str, broker: str) -> None:
        """A session of the connection works."""

    def link_down(self, link: str, reason: str, wait: float) -> None:
        """The connection has no session, and tries again after `wait` seconds."""


Session = Callable[[AbstractConnection, Callable[[], None]], Awaitable[str]]
"""Serves on a connection until it is no longer good; calls its second argument once it works, returns the reason."""


class ConnectionSupervisor:
    """Keeps one connection up for as long as `run` is awaited."""

    def __init__(
        self, name: str, brokers: Brokers, session: Session, observer: ConnectionObserver, *, max_down_seconds: float
    ) -> None:
        self.name = name
        self.state = "connecting"
        """`up`, or why not: for readiness and the status page."""
        self._brokers = brokers
        self._session = session
        self._observer = observer
        self._max_down_seconds = max_down_seconds

    def __repr__(self) -> str:
        return f"<ConnectionSupervisor {self.name}: {self.state}>"

    @property
    def is_up(self) -> bool:
        """True while a session works."""
        return self.state == "up"

    async def run(self) -> None:
        """Serve session after session. Raises BrokerLostError after `max_down_seconds`, TopologyError at once."""
        failures, steady_at = 0, time.monotonic()
        attempt = random.randrange(len(self._brokers.urls))
        while True:
            started_at = time.monotonic()
            reason = await self._serve(attempt)
            now = time.monotonic()
            if now - started_at >= STEADY_SESSION_SECONDS:
                failures, steady_at = 0, now
            if now - steady_at > self._max_down_seconds:
                raise BrokerLostError(f"{self.name}: no working broker for {self._max_down_seconds:g} s: {reason}")
            failures += 1
            attempt += 1
            wait = backoff.reconnect(failures, random.random())
            self.state = reason
            self._observer.link_down(self.name, reason, wait)
            await asyncio.sleep(wait)

    async def _serve(self, attempt: int) -> str:
        try:
            with connection_loss_as_error():
                async with connected(self._brokers, attempt, f"dcs-worker {self.name}") as connection:
                    return await self._session(connection, lambda: self._up(connection))
        except TopologyError:
            raise
        except TimeoutError:
            return "the broker does not answer"
        except ConnectionLostError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - the next session is the remedy for any error
            return f"{type(error).__name__}: {error}"[:300]

    def _up(self, connection: AbstractConnection) -> None:
        self.state = "up"
        self._observer.link_up(self.name, str(connection))

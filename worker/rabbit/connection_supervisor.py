"""Supervisor of one connection to the broker: sessions one after another, with backoff between them."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from aio_pika.abc import AbstractConnection

from worker.policy import backoff
from worker.rabbit.connection import Brokers, connected, connection_loss_as_error
from worker.rabbit.failure_reasons import reason_in_words
from worker.rabbit.topology import TopologyError

STEADY_SESSION_SECONDS: Final = 30.0
"""A session that lasted this long was a good one; shorter ones count as failures in a row."""


class BrokerLostError(Exception):
    """No steady session for longer than allowed: the process ends, and the orchestrator starts another one."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(f"No connection to the broker worked for {seconds:g} s: {reason}")
        self.seconds = seconds


class ConnectionObserver(Protocol):
    """Receives when a connection comes up or goes down."""

    def link_up(self, link: str, broker: str) -> None:
        """A session of the connection works."""

    def link_down(self, link: str, broker: str, reason: str, retry_in_seconds: float) -> None:
        """The connection has no session, for a reason in words, and tries again."""


Session = Callable[[AbstractConnection, Callable[[], None]], Awaitable[str]]
"""Serves on a connection until it is no longer good; calls its second argument once it works, returns the reason."""


class ConnectionSupervisor:
    """Keeps one connection up for as long as `run` is awaited."""

    def __init__(
        self,
        name: str,
        brokers: Callable[[], Brokers],
        session: Session,
        observer: ConnectionObserver,
        *,
        max_down_seconds: float,
    ) -> None:
        """`brokers` is called for each attempt: login and TLS files may have been rotated since the last one."""
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
        brokers = self._brokers()
        attempt = random.randrange(len(brokers.urls))
        while True:
            started_at = time.monotonic()
            reason, address = await self._serve(brokers, attempt), brokers.address(attempt)
            now = time.monotonic()
            if now - started_at >= STEADY_SESSION_SECONDS:
                failures, steady_at = 0, now
            if now - steady_at > self._max_down_seconds:
                raise BrokerLostError(f"{address}: {reason}", self._max_down_seconds)
            failures += 1
            wait = backoff.reconnect(failures, random.random())
            self.state = f"{address}: {reason}"
            self._observer.link_down(self.name, address, reason, wait)
            attempt += 1
            await asyncio.sleep(wait)
            brokers = self._brokers()

    async def _serve(self, brokers: Brokers, attempt: int) -> str:
        try:
            with connection_loss_as_error():
                async with connected(brokers, attempt, f"dcs-worker {self.name}") as connection:
                    return await self._session(connection, lambda: self._up(brokers.address(attempt)))
        except TopologyError:
            raise
        except Exception as error:  # noqa: BLE001 - the next session is the remedy for any error
            return reason_in_words(error)

    def _up(self, broker: str) -> None:
        self.state = "up"
        self._observer.link_up(self.name, broker)

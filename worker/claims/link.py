"""The connection to Redis, kept up beside the requests: one attempt at a time, and none of them waits for it."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from worker.claims.reasons import in_words
from worker.claims.wire import Dial, NoAnswer, Reply, Wire, opened

PAUSE: Final = 0.5
"""Seconds at least, and at most twice as long, from a failure to the next attempt."""
STEADY: Final = 5.0
"""After a session that lasted so many seconds the next attempt is made at once."""


class ClaimsObserver(Protocol):
    """Is told how the claims fare."""

    def claims_available(self, is_available: bool, reason: str) -> None:
        """Redis can be used from now on, or not any more; told only when that changes."""
        ...

    def claims_doubted(self, seconds: float) -> None:
        """Redis is new or forgot its records: for so many seconds every request is looked for before it is created."""
        ...


Beat = Callable[[Wire, bool], Awaitable[str | None]]
"""Does what is due on a wire; whether the wire is a new one; the reason if Redis is of no use."""


class Link:
    """Keeps one wire up for as long as `run` is awaited, and calls `beat` on it, first of all and every so often."""

    def __init__(self, dial: Dial, beat: Beat, observer: ClaimsObserver, *, deadline: float, every: float) -> None:
        self._dial = dial
        self._beat = beat
        self._observer = observer
        self._deadline = deadline
        self._every = every
        self._wire: Wire | None = None
        self._was_available: bool | None = None
        self.tried = asyncio.Event()
        """Set once the first attempt has succeeded or failed."""

    def __repr__(self) -> str:
        return f"<Link: {self._wire!r}>"

    @property
    def is_available(self) -> bool:
        """Whether Redis can be asked."""
        return self._wire is not None and not self._wire.broken.done()

    def ask(self, command: bytes) -> asyncio.Future[Reply]:
        """The reply to `command`, at once if Redis is away."""
        if self._wire is not None:
            return self._wire.ask(command)
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        reply.set_result(NoAnswer("Redis is away"))
        return reply

    async def run(self) -> None:
        """Session after session."""
        clock = asyncio.get_running_loop().time
        while True:
            begun = clock()
            reason = await self._session()
            self._say(False, reason)
            if clock() - begun < STEADY:
                await asyncio.sleep(PAUSE * (1 + random.random()))

    async def _session(self) -> str:
        try:
            async with opened(self._dial, self._deadline) as wire:
                reason = await self._beat(wire, True)
                if reason is None:
                    self._wire = wire
                    self._say(True, "Redis answers")
                while reason is None:
                    await asyncio.wait((wire.broken,), timeout=self._every)
                    reason = wire.broken.result() if wire.broken.done() else await self._beat(wire, False)
                return reason
        except Exception as error:  # noqa: BLE001 - whatever ends a session, the next one is the remedy
            return in_words(error)
        finally:
            self._wire = None

    def _say(self, is_available: bool, reason: str) -> None:
        self.tried.set()
        if is_available is not self._was_available:
            self._was_available = is_available
            self._observer.claims_available(is_available, reason)

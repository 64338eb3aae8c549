"""So many a second, and no more."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

_CATCH_UP: Final = 0.1
"""Seconds that a late turn may be made up for: enough for a rough timer, too little for a burst."""


class Pace:
    """Lets one pass `rate` times a second; without a rate at once."""

    def __init__(
        self,
        rate: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._interval = 1.0 / rate if rate else 0.0
        self._clock = clock
        self._sleep = sleep
        self._next = clock()

    def __repr__(self) -> str:
        return f"<Pace: every {self._interval:g} s>"

    async def turn(self) -> None:
        """Return when the next one may pass."""
        if not self._interval:
            return
        wait = self._next - self._clock()
        if wait > 0:
            await self._sleep(wait)
        self._next = max(self._next, self._clock() - _CATCH_UP) + self._interval

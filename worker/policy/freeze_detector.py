"""Whether this process ran all the time: law 5, a frozen process that wakes up does not know what happened."""

from collections.abc import Callable
from typing import Final

FROZEN_AFTER: Final = 5.0
"""Seconds without a beat that count as a freeze: less than any broker takes to give a silent client up."""
TICK_SECONDS: Final = 1.0
"""Seconds between two beats."""


class FreezeDetector:
    """Counts freezes. Somebody has to call `beat` every second."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = clock()
        self._freezes = 0

    def __repr__(self) -> str:
        return f"<Pulse: {self._freezes} freezes>"

    def tick(self) -> int:
        """The process runs; how many freezes there were so far, one that just ended included."""
        now = self._clock()
        if now - self._last > FROZEN_AFTER:
            self._freezes += 1
        self._last = now
        return self._freezes

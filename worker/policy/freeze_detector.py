"""Freeze detector: whether this process ran all the time.

Law `stale-delivery`: a frozen process that wakes up does not know what happened meanwhile.
Short on purpose: it is one class.
"""

from collections.abc import Callable
from typing import Final

FROZEN_AFTER: Final = 5.0
"""Seconds without a tick that count as a freeze: fewer than any broker waits for a silent client."""
TICK_SECONDS: Final = 1.0
"""Seconds between two ticks."""


class FreezeDetector:
    """Counts freezes. `tick` must be called every second."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = clock()
        self._freezes = 0

    def __repr__(self) -> str:
        return f"<FreezeDetector: {self._freezes} freezes>"

    def tick(self) -> int:
        """The process runs. Returns the number of freezes, the one that just ended included."""
        now = self._clock()
        if now - self._last > FROZEN_AFTER:
            self._freezes += 1
        self._last = now
        return self._freezes

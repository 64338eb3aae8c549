"""Limiter of repeated log lines: of a flood of one kind the first lines are written, the others are counted.

At the end of the window one summary has the count, so that a flood hides no other line, and every line is accounted
for. Memory is bounded: beyond MAX_KINDS the oldest window ends early.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

WINDOW_SECONDS: Final = 10.0
MAX_LINES: Final = 10
"""Written lines of one kind in a window."""
MAX_KINDS: Final = 256
"""Error codes are texts of the service: there may be any number of them."""


@dataclass(frozen=True, slots=True)
class LineKind:
    """What makes two lines the same: all but the request."""

    level: int
    event: str
    region: str | None
    reason: str
    error_code: str | None


@dataclass(slots=True)
class _Window:
    began_at: float
    lines: int = 0


class RepeatedLines:
    """The open windows of all kinds. `summarise` gets kind, count of lines that were not written, and seconds."""

    def __init__(
        self, summarise: Callable[[LineKind, int, float], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._summarise = summarise
        self._clock = clock
        self._windows: dict[LineKind, _Window] = {}

    def __repr__(self) -> str:
        return f"<RepeatedLines: {len(self._windows)} kinds>"

    def admits(self, kind: LineKind) -> bool:
        """Whether a line of this kind is written; else it is counted."""
        window = self._windows.get(kind)
        if window is not None and self._has_ended(window):
            self._end(kind)
            window = None
        if window is None:
            if len(self._windows) >= MAX_KINDS:
                self._end(next(iter(self._windows)))
            window = self._windows[kind] = _Window(self._clock())
        window.lines += 1
        return window.lines <= MAX_LINES

    def flush(self, *, is_last: bool = False) -> None:
        """Summarise the windows that have ended; all of them if no other line follows."""
        for kind in [kind for kind, window in self._windows.items() if is_last or self._has_ended(window)]:
            self._end(kind)

    def _has_ended(self, window: _Window) -> bool:
        return self._clock() - window.began_at >= WINDOW_SECONDS

    def _end(self, kind: LineKind) -> None:
        window = self._windows.pop(kind)
        if window.lines > MAX_LINES:
            self._summarise(kind, window.lines - MAX_LINES, self._clock() - window.began_at)

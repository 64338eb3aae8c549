"""Rate and progress of bulk commands: a pacer, and a progress bar on a terminal or plain lines elsewhere."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from worker.cli.common import short_duration

LINE_INTERVAL_SECONDS: Final = 2.0
REDRAW_INTERVAL_SECONDS: Final = 0.1
_MAX_CATCH_UP_SECONDS: Final = 0.1
"""How much delay may be caught up with: enough for a rough timer, too little for a burst."""


class Pacer:
    """Rate limiter of a bulk command: `wait` returns `rate` times a second, or at once without a rate."""

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

    async def wait(self) -> None:
        """Return when the next item may be sent."""
        if not self._interval:
            return
        wait = self._next - self._clock()
        if wait > 0:
            await self._sleep(wait)
        self._next = max(self._next, self._clock() - _MAX_CATCH_UP_SECONDS) + self._interval


class ProgressDisplay:
    """Progress on standard error or `stream`: how many of `total` are `done`, and `detail`.

    Without `detail`: items per second, and remaining time.
    """

    def __init__(
        self, done: str, total: int, stream: TextIO | None = None, detail: Callable[[], str] | None = None
    ) -> None:
        self._done = done
        self._total = total
        self._detail = detail
        self._console = Console(file=stream or sys.stderr, highlight=False)
        self._is_live = self._console.is_terminal and not self._console.is_dumb_terminal
        columns = (BarColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=self._console, disable=not self._is_live)
        self._count = self._first = 0
        self._started_at = self._shown_at = time.monotonic()
        self._task = self._bar.add_task(self._text(), total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.show()
        self._bar.stop()

    def start_at(self, count: int) -> None:
        """Set the number of items done before; they do not count for the rate."""
        self._first = self._count = count

    def update(self, count: int) -> None:
        """Set the number of items done."""
        self._count = count
        if time.monotonic() - self._shown_at >= (REDRAW_INTERVAL_SECONDS if self._is_live else LINE_INTERVAL_SECONDS):
            self.show()

    def show(self) -> None:
        """Show the progress now."""
        self._shown_at = time.monotonic()
        if self._is_live:
            self._bar.update(self._task, completed=self._count, description=self._text())
        else:
            self._console.print(self._text(), markup=False, soft_wrap=True)

    def _text(self) -> str:
        text = f"{self._count:,} of {self._total:,} {self._done}"
        if self._detail is not None:
            return f"{text}: {self._detail()}"
        rate = (self._count - self._first) / max(time.monotonic() - self._started_at, 1e-3)
        if rate <= 0:
            return text
        left = (self._total - self._count) / rate
        return f"{text}, {rate:,.0f}/s" + (f", {short_duration(left)} left" if left else "")

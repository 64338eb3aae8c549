"""Event loop that never waits: if no callback is ready, it moves its clock to the next timer."""

import asyncio
import selectors
from typing import Any


class _NoWaiting(selectors.SelectSelector):
    """Lets the loop's clock jump by what it would have waited."""

    loop: "VirtualTime"

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "nothing is left to do, and something is still waited for"
        self.loop.now += timeout
        return super().select(0)


class VirtualTime(asyncio.SelectorEventLoop):
    """The ordinary event loop on a clock of its own, which begins at 0."""

    def __init__(self) -> None:
        selector = _NoWaiting()
        selector.loop = self
        self.now = 0.0
        super().__init__(selector)

    def time(self) -> float:
        """Virtual seconds."""
        return self.now

"""The beginning of a drain: no further call begins, and waits between two tries end at once.

Short on purpose: it is one signal.
"""

import asyncio

from worker.policy.call_result import ThrottleClosedError


class Closing:
    """Open until it is closed, once."""

    def __init__(self) -> None:
        self.is_closed = False
        self._sleepers: set[asyncio.Future[bool]] = set()

    def check_open(self) -> None:
        """Raise ThrottleClosedError if it is closed."""
        if self.is_closed:
            raise ThrottleClosedError

    async def pause(self, seconds: float) -> bool:
        """Wait between two tries; False as soon as it is closed."""
        if self.is_closed:
            return False
        loop = asyncio.get_running_loop()
        sleeper = loop.create_future()
        timer = loop.call_later(seconds, _wake, sleeper, True)
        self._sleepers.add(sleeper)
        try:
            has_elapsed: bool = await sleeper
            return has_elapsed
        finally:
            timer.cancel()
            self._sleepers.discard(sleeper)

    def close(self) -> None:
        """Let no further call begin, and end all pauses."""
        self.is_closed = True
        for sleeper in self._sleepers:
            _wake(sleeper, False)


def _wake(sleeper: asyncio.Future[bool], has_elapsed: bool) -> None:
    if not sleeper.done():
        sleeper.set_result(has_elapsed)

"""The beginning of a drain: no further call begins, and whoever waits between two tries goes on at once."""

import asyncio

from worker.policy.call_result import GateClosedError


class Closing:
    """Open until it is closed, once."""

    def __init__(self) -> None:
        self.is_closed = False
        self._sleepers: set[asyncio.Future[bool]] = set()

    def check_open(self) -> None:
        """Raise GateClosedError if it is closed."""
        if self.is_closed:
            raise GateClosedError

    async def pause(self, seconds: float) -> bool:
        """Wait between two tries; False as soon as it is closed."""
        if self.is_closed:
            return False
        loop = asyncio.get_running_loop()
        sleeper = loop.create_future()
        timer = loop.call_later(seconds, _wake, sleeper, True)
        self._sleepers.add(sleeper)
        try:
            is_over: bool = await sleeper
            return is_over
        finally:
            timer.cancel()
            self._sleepers.discard(sleeper)

    def close(self) -> None:
        """Let no further call begin, and end all pauses."""
        self.is_closed = True
        for sleeper in self._sleepers:
            _wake(sleeper, False)


def _wake(sleeper: asyncio.Future[bool], is_over: bool) -> None:
    if not sleeper.done():
        sleeper.set_result(is_over)

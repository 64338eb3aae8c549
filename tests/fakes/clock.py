"""Clock of the tests: time passes when a test says so, and those who sleep by it wake when theirs has come."""

import asyncio

START = 1_700_000_000.0


class FakeClock:
    """Stands still until it is moved: by setting `now`, by `advance`, or by `pass_time` in the place of a sleep."""

    def __init__(self, now: float = START) -> None:
        self.now = now
        self._moved = asyncio.Event()

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was advanced by so many seconds."""
        end = self.now + seconds
        while self.now < end:
            await self._moved.wait()

    async def advance(self, seconds: float) -> None:
        """Move the clock, and let run what waited for it."""
        self.now += seconds
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        await run_ready_tasks()

    async def pass_time(self, seconds: float) -> None:
        """Sleep by moving the clock: for a single task that nothing else waits for."""
        self.now += seconds


async def run_ready_tasks() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(50):
        await asyncio.sleep(0)

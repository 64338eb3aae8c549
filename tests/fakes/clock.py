"""A clock for tests that moves only when the test moves it."""


class FakeClock:
    """Shows `now`; `sleep` returns at once and moves the clock by its duration."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time that the clock shows, in seconds."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Move the clock."""
        self.now += seconds

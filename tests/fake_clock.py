"""A clock that tests set by hand."""


class FakeClock:
    """Returns `now` until a test changes it."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time that was set, in seconds."""
        return self.now

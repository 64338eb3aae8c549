"""How many events there were in the last second, for the price of an addition each."""


class Meter:
    """Counts by seconds; the last one is weighed by how much of it is less than a second ago."""

    def __init__(self) -> None:
        self._begun = 0.0
        self._count = self._before = 0

    def __repr__(self) -> str:
        return f"<Meter: {self._before}, {self._count}>"

    def count(self, now: float) -> None:
        """Another event. `now`: seconds of any one clock."""
        if now - self._begun >= 1.0:
            self._turn(now)
        self._count += 1

    def per_second(self, now: float) -> float:
        """Events of the last second."""
        if now - self._begun >= 1.0:
            self._turn(now)
        return self._before * (1.0 - (now - self._begun)) + self._count

    def _turn(self, now: float) -> None:
        self._before = self._count if now - self._begun < 2.0 else 0
        self._begun, self._count = now, 0

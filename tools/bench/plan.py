"""How much is measured: everything in less than half an hour, or the most of it in less than four minutes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Numbers of requests, and seconds that one measurement may take.

    A slow competitor is measured on a third of `requests`. Nothing is measured for longer than `seconds`, from the
    moment when a tenth of the requests is done.
    """

    rounds: int
    requests: int
    seconds: float
    paced: int
    paced_rounds: int
    backlogs: tuple[int, ...]
    series_rounds: int
    flat_after: int

    @property
    def is_full(self) -> bool:
        """Whether everything is measured."""
        return self.flat_after > 0


RATE = 20.0
"""Requests in a second that are low load."""

FULL = Plan(
    rounds=3,
    requests=20_000,
    seconds=10.0,
    paced=200,
    paced_rounds=3,
    backlogs=(1_000, 20_000, 200_000),
    series_rounds=3,
    flat_after=20_000,
)
QUICK = Plan(
    rounds=2,
    requests=5_000,
    seconds=2.0,
    paced=60,
    paced_rounds=1,
    backlogs=(1_000, 10_000),
    series_rounds=2,
    flat_after=0,
)

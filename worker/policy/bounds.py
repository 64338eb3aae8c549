"""The settings that keep the service from being asked too much."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the gate is bound by. Durations in seconds."""

    regions: tuple[str, ...]
    prefetch: int
    """Requests in hand at most, hence calls at once."""
    deadline: float
    """Of one call."""
    delays: tuple[float, ...]
    """The retry schedule."""
    rate: float | None = None
    """Calls per second, in all regions together; None: learnt for each."""

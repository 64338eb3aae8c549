"""How fast a breaker opens, and how it asks again."""

from dataclasses import dataclass
from math import inf
from typing import Final


@dataclass(frozen=True, slots=True)
class Tempo:
    """When a breaker opens, and how far apart its probes are. Durations in seconds."""

    row: int = 5
    """Failures in a row that open it."""
    share: float = 0.5
    """Share of failures among the last calls (some 14 of them at least) that opens it."""
    requests: int = 3
    """Different requests that must be among the last failures: one alone is to blame for its own."""
    first: float = 2.0
    """Until the first probe, and at least between two: two replicas make one call per second together."""
    growth: float = 1.2
    longest: float = 15.0


OF_PROJECT: Final = Tempo(share=inf, first=10.0, growth=2.0, longest=300.0)
"""Of a project that is refused or full: that does not pass by itself."""

"""What holds requests back, in numbers: for metrics. Times are epoch seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final

HELD: Final = ("throttled", "credentials", "quota")
"""Why the requests of a project step aside."""


@dataclass(frozen=True, slots=True)
class Held:
    """What holds the requests for one region back."""

    opened_at: float = 0.0
    """When its breaker was opened; 0 while it is closed."""
    probe_at: float = 0.0
    """When it is probed next; 0 while it is closed."""
    rate: float = inf
    """Calls per second that a quota allows, be it set or learnt."""
    projects: Mapping[str, int] = field(default_factory=dict)
    """How many step aside, by reason."""

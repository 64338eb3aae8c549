"""Whether this replica takes requests, and if not, why."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Readiness:
    """`reason` in a few words; `details` are plain values for whoever wants to know more."""

    is_ready: bool
    reason: str
    details: Mapping[str, object] = field(default_factory=dict)

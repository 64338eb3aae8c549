"""Facts that the observer is told."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from schemas import names
from schemas.envelope import Envelope
from worker.policy.migration_request import MigrationRequest


@dataclass(frozen=True, slots=True)
class DeliveryFinished:
    """A delivery that was acknowledged, or that had to be left to the broker."""

    outcome: str
    """`succeeded`, `failed`, `retried` or `returned`."""
    reason: str
    migration: MigrationRequest | None
    envelope: Envelope
    seconds: float
    """From received to acknowledged."""
    age: float
    """From first received to now."""
    parked: bool = False
    trace_id: str | None = None
    """From the request's `traceparent`, if it had one."""


_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def trace_id(headers: Mapping[str, object]) -> str | None:
    """The trace that a message belongs to (https://www.w3.org/TR/trace-context/), if it says so readably."""
    value = headers.get(names.TRACEPARENT)
    match = _TRACEPARENT.fullmatch(value) if isinstance(value, str) else None
    return match[1] if match else None

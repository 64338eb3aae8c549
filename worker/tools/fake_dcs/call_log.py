"""Log of received calls (the newest 100,000), and counters.

A call is recorded when it arrives, so that a call without an answer is visible too; its status stays null. Tokens,
signatures and passwords are not stored: their header gets a fingerprint, which distinguishes two tokens.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from sys import intern
from typing import Any

MAX_CALLS_KEPT = 100_000
MAX_BODY_CHARACTERS_KEPT = 4096

_SECRET_HEADERS = frozenset({"x-auth-token", "x-subject-token", "x-security-token", "x-metadata-token"})


@dataclass(slots=True)
class CallRecord:
    """One call: `at` in epoch seconds, `seconds` its duration, `step` its fault step."""

    at: float
    operation: str
    method: str
    path: str
    project: str | None
    request_id: str
    headers: dict[str, str]
    name: str | None = None
    body: str | None = None
    step: str | None = None
    status: int | None = None
    error_code: str | None = None
    seconds: float | None = None


class CallLog:
    """The calls since the last reset, and counters by operation and status."""

    def __init__(self) -> None:
        self.calls: deque[CallRecord] = deque(maxlen=MAX_CALLS_KEPT)
        self.in_flight = 0
        self.max_in_flight = 0
        self._count_by_status: Counter[tuple[str, str]] = Counter()

    def __repr__(self) -> str:
        return f"<CallLog ended={sum(self._count_by_status.values())} in_flight={self.in_flight}>"

    def call_arrived(self, call: CallRecord) -> None:
        """Record a call that arrived."""
        self.calls.append(call)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def call_ended(self, call: CallRecord, now: float) -> None:
        """Record how a call ended: with a status, or without an answer."""
        self.in_flight -= 1
        call.seconds = round(now - call.at, 6)
        self._count_by_status[call.operation, str(call.status or "no answer")] += 1

    def stats(self) -> dict[str, Any]:
        """Calls by operation and status, and calls in flight now and at most."""
        calls: dict[str, dict[str, int]] = {}
        for (operation, status), number in sorted(self._count_by_status.items()):
            calls.setdefault(operation, {})[status] = number
        return {"calls": calls, "under_way": self.in_flight, "most_under_way": self.max_in_flight}


def redact_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers without secrets; equal texts of many calls share one string."""
    return {intern(str(name)): intern(_redact_header(name.lower(), value)) for name, value in headers.items()}


def _redact_header(name: str, value: str) -> str:
    if name == "authorization":
        signed, mark, _ = value.partition("Signature=")
        return f"{signed}{mark}{_fingerprint(value)}" if mark else _fingerprint(value)
    return _fingerprint(value) if name in _SECRET_HEADERS else value


def _fingerprint(secret: str) -> str:
    return "***" + sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()[:8]

"""What the stand-in got: every call, newest kept, and counters that cost nothing to read.

A call is recorded when it arrives, so that one that never gets an answer is seen too; its status stays null then.
Tokens, signatures and passwords are never kept: a header that carries one keeps a fingerprint, enough to tell two
tokens apart.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from sys import intern
from typing import Any

KEPT_CALLS = 100_000
KEPT_BODY = 4096

_SECRET_HEADERS = frozenset({"x-auth-token", "x-subject-token", "x-security-token", "x-metadata-token"})


@dataclass(slots=True)
class Call:
    """One call. `at` is epoch seconds; `seconds` how long it took; `step` the fault step it met, if any."""

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

    def as_json(self) -> dict[str, Any]:
        """The call as `/_calls` shows it."""
        return asdict(self)


class Record:
    """The calls, and how many there were of each kind since the last reset."""

    def __init__(self) -> None:
        self.calls: deque[Call] = deque(maxlen=KEPT_CALLS)
        self.under_way = 0
        self.most_under_way = 0
        self._ended: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, tuple[int, int]] = {}
        self._maxima: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Record ended={sum(self._ended.values())} under_way={self.under_way}>"

    def arrived(self, call: Call) -> None:
        """Note a call whose answer is still to come."""
        self.calls.append(call)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.count_second(call.operation, call.at)

    def ended(self, call: Call, now: float) -> None:
        """Note how a call ended: with a status, or without an answer."""
        self.under_way -= 1
        call.seconds = round(now - call.at, 6)
        self._ended[call.operation, str(call.status or "no answer")] += 1

    def count_second(self, what: str, now: float) -> None:
        """Count one more of something for the maxima per second of the clock."""
        second = int(now)
        last, number = self._seconds.get(what, (second, 0))
        number = number + 1 if last == second else 1
        self._seconds[what] = (second, number)
        self._maxima[what] = max(self._maxima.get(what, 0), number)

    def stats(self) -> dict[str, Any]:
        """Calls by operation and status, the most in one second, and how many were and are under way."""
        calls: dict[str, dict[str, int]] = {}
        for (operation, status), number in sorted(self._ended.items()):
            calls.setdefault(operation, {})[status] = number
        return {
            "calls": calls,
            "most_per_second": dict(self._maxima),
            "under_way": self.under_way,
            "most_under_way": self.most_under_way,
        }


def masked(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers without what must not be kept; equal texts of many calls are kept once."""
    return {intern(str(name)): intern(_masked(name.lower(), value)) for name, value in headers.items()}


def _masked(name: str, value: str) -> str:
    if name == "authorization":
        signed, mark, _ = value.partition("Signature=")
        return f"{signed}{mark}{_fingerprint(value)}" if mark else _fingerprint(value)
    return _fingerprint(value) if name in _SECRET_HEADERS else value


def _fingerprint(secret: str) -> str:
    return "***" + sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()[:8]

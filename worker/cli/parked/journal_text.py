"""Text of journal entries, as `explain` and `parked show` print them."""

from collections.abc import Callable, Mapping
from typing import Final

from schemas.journal import Entry, Kind
from worker.cli.common import exact_duration

_EVIDENCE_TEXTS: Final = {
    "never_sent": "not sent",
    "refused": "rejected: no task was created",
    "ambiguous": "result unknown: a task may have been created",
}
"""What the result of a create call proves. The result of a lookup proves nothing about tasks."""
_LOOKUP_TEXTS: Final = {
    "found": "task found",
    "absent": "no task found",
    "several": "several tasks found that may belong to the request",
}
_WAIT_REASONS: Final = {
    "settle": "a create call may still take effect",
    "claimed": "another replica is handling the request",
    "copy": "duplicate message",
    "quarantine": "suspected of crashing workers, handled alone",
    "breaker": "DCS is failing, the circuit breaker is open",
    "turn": "no free permit for a call",
    "throttled": "rate limit of the project reached",
    "credentials": "DCS rejects the credentials",
    "quota": "quota of the project reached",
}


def describe_entry(entry: Entry) -> str:
    """One journal entry as a sentence."""
    return _DESCRIPTIONS[entry.did](entry)


def _create(entry: Entry) -> str:
    evidence = f", {_EVIDENCE_TEXTS.get(entry.evidence, entry.evidence)}" if entry.evidence else ""
    return f"create call {entry.n}: {'task created' if entry.got == 'done' else entry.got}{_call(entry, evidence)}"


def _look(entry: Entry) -> str:
    return f"lookup: {_LOOKUP_TEXTS.get(entry.got, entry.got)}{_call(entry)}"


def _gate(entry: Entry) -> str:
    return f"waited {exact_duration(entry.took)} for the permit of a call"


def _wait(entry: Entry) -> str:
    reason = _WAIT_REASONS.get(entry.got, f"because of {entry.got}")
    return f"waits {exact_duration(entry.took)} in retry queue {entry.n}: {reason}"


def _returned(_: Entry) -> str:
    return "requeued by a replica that was shutting down"


def _redelivered(entry: Entry) -> str:
    count = f"{entry.n} delivery was" if entry.n == 1 else f"{entry.n} deliveries were"
    return f"redelivered: {count} interrupted (worker or connection lost)"


def _parked(entry: Entry) -> str:
    return f"parked: {entry.got}{_code(entry)}"


def _replayed(entry: Entry) -> str:
    return f"replayed by an operator (replay {entry.n})"


def _call(entry: Entry, evidence: str = "") -> str:
    request_id = f", DCS request id {entry.id}" if entry.id else ""
    return f"{_code(entry)} after {exact_duration(entry.took)}{evidence}{request_id}"


def _code(entry: Entry) -> str:
    return f" ({entry.code})" if entry.code else ""


_DESCRIPTIONS: Final[Mapping[Kind, Callable[[Entry], str]]] = {
    Kind.CREATE: _create,
    Kind.LOOK: _look,
    Kind.GATE: _gate,
    Kind.WAIT: _wait,
    Kind.RETURNED: _returned,
    Kind.REDELIVERED: _redelivered,
    Kind.PARKED: _parked,
    Kind.REPLAYED: _replayed,
}

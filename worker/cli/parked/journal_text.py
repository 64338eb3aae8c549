"""Entries of a journal in words."""

from collections.abc import Callable, Mapping
from typing import Final

from schemas.journal import Entry, Kind
from worker.cli.common import exact_duration

_EVIDENCE_TEXTS: Final = {
    "never_sent": "it was never sent",
    "refused": "DCS did not act",
    "ambiguous": "a task may exist",
}
_LOOKUP_TEXTS: Final = {
    "found": "the task is there",
    "absent": "there is no task",
    "several": "several tasks may be the request's",
}
_WAIT_REASONS: Final = {
    "settle": "a create call may still take effect",
    "claimed": "another replica has it in hand",
    "copy": "a copy of it waits too",
    "quarantine": "one suspect at a time",
    "breaker": "the service is out of order",
    "turn": "too many calls before it",
    "throttled": "the quota of its project is used up",
    "credentials": "the service does not accept the credentials",
    "quota": "its project is full",
}


def describe_entry(entry: Entry) -> str:
    """What `entry` tells."""
    return _DESCRIPTIONS[entry.did](entry)


def _create(entry: Entry) -> str:
    return f"create {entry.n}: {'task created' if entry.got == 'done' else entry.got}{_call(entry)}"


def _look(entry: Entry) -> str:
    return f"look: {_LOOKUP_TEXTS.get(entry.got, entry.got)}{_call(entry)}"


def _gate(entry: Entry) -> str:
    return f"waited {exact_duration(entry.took)} for its turn to call"


def _wait(entry: Entry) -> str:
    reason = _WAIT_REASONS.get(entry.got, f"after {entry.got}")
    return f"waits {exact_duration(entry.took)} in retry queue {entry.n}: {reason}"


def _returned(_: Entry) -> str:
    return "handed back by a replica that was told to stop"


def _redelivered(entry: Entry) -> str:
    return f"delivered again: {entry.n} {'delivery' if entry.n == 1 else 'deliveries'} ended without a word"


def _parked(entry: Entry) -> str:
    return f"parked: {entry.got}{_code(entry)}"


def _replayed(entry: Entry) -> str:
    return f"sent again by an operator, replay {entry.n}"


def _call(entry: Entry) -> str:
    evidence = f": {_EVIDENCE_TEXTS.get(entry.evidence, entry.evidence)}" if entry.evidence else ""
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

"""Records of requests in Redis: how an ending is stored, and tolerant reading of what the scripts answer.

An ending that no worker can have written (other types, a text longer than any, a time in the future, another request's
id) is unreadable and proves nothing. Members that a later version added are left out.
"""

import json
import re
from dataclasses import dataclass, replace
from typing import Final

from pydantic import TypeAdapter

from schemas.event import MigrationFailed, MigrationSucceeded
from schemas.journal import LIMIT as JOURNAL_LIMIT
from schemas.journal import Journal
from schemas.last_error import LastError
from schemas.timestamp import from_text
from worker.claims.scripts import CLOCK_ALLOWANCE_SECONDS, EARLIEST_TIME, MOST_REPLAYS
from worker.policy.migration_request import MigrationRequest
from worker.policy.outcome import ClaimAnswer, ClaimedElsewhere, Completed, Concluded, Granted, Unavailable

_EVENT_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ERROR_CODE_BYTES: Final = 4096  # 1,024 characters
_ENDING: Final = TypeAdapter(Completed)


@dataclass(frozen=True, slots=True)
class Doubted:
    """The claim was granted in place of a record that no worker can have written."""

    last_sent_at: float | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The request has an ending that no worker can have written: it is to be claimed in its place."""

    ending: bytes


@dataclass(frozen=True, slots=True)
class Outdated(Unreadable):
    """The request has an ending that does not answer this delivery: it is to be claimed in its place as well."""


def encode_ending(ending: Completed) -> bytes:
    """The ending as it is stored."""
    return json.dumps(ending.to_record(), separators=(",", ":"), ensure_ascii=False).encode()


def read_take(
    reply: object, migration: MigrationRequest, now: float, *, is_remembered: bool
) -> ClaimAnswer | Doubted | Unreadable:
    """What a reply of scripts.TAKE answers at `now` (epoch seconds).

    `is_remembered`: Redis has forgotten nothing for as long as "never claimed before" needs to be believed.
    """
    word, _, rest = reply.partition(b" ") if isinstance(reply, bytes) else (b"", b"", b"")
    found: ClaimAnswer | Doubted | Unreadable = Unavailable()
    match word:
        case b"new":
            found = Granted(is_first=is_remembered, has_record=False)
        case b"held":
            found = ClaimedElsewhere(rest.decode("ascii", "replace"))
        case b"lost":  # its owner died, possibly with a create in flight
            found = Granted(is_first=False, last_sent_at=now, last_error=LastError.read(rest))
        case b"free":
            sent, _, error = rest.partition(b" ")
            found = Granted(is_first=False, last_sent_at=_last_sent_at(sent, now), last_error=LastError.read(error))
        case b"odd":
            found = Doubted(_last_sent_at(rest, now))
        case b"concluded":
            ending = read_ending(rest, migration, now)
            found = Concluded(ending) if ending else Unreadable(stored_text(reply))
        case b"reopened":  # nothing was sent after the request had failed
            ending = read_ending(rest, migration, now)
            found = Granted(is_first=False, last_sent_at=_completed_at(ending, now)) if ending else Doubted()
    return found


def stored_text(reply: object) -> bytes:
    """The stored text in a reply `concluded`."""
    return reply.split(b" ", 4)[-1] if isinstance(reply, bytes) else b""


def read_ending(stored: object, migration: MigrationRequest, now: float) -> Completed | None:
    """The ending in `stored`: fingerprint, 1 if it succeeded, replays and the text, as the scripts answer it.

    None if there is none, or one that no worker can have written.
    """
    if not isinstance(stored, bytes):
        return None
    try:
        fingerprint, succeeded, replays, text = stored.split(b" ", 3)
        ending = _ENDING.validate_json(text, strict=True)
        is_consistent = (
            ending.succeeded is (succeeded == b"1")
            and ending.fingerprint in ("", fingerprint.decode())
            and ending.replays == int(replays)
        )
        is_sound = is_consistent and _is_within_limits(ending) and _is_of(migration, ending, now)
    except ValueError:
        return None
    if Journal.read(ending.journal) is None:
        ending = replace(ending, journal="")  # for operators only, so a journal of a later version costs no ending
    return ending if is_sound else None


def is_remembered(memory: object, now: float, seconds: float) -> bool:
    """Whether the value of scripts.MEMORY_KEY says that Redis has forgotten nothing for so many seconds."""
    return now - memory_start(memory, now) >= seconds


def memory_start(memory: object, now: float) -> float:
    """Since when Redis has forgotten nothing, by the value of scripts.MEMORY_KEY; `now` if that says nothing."""
    try:
        since = float(memory) if isinstance(memory, bytes) else now
    except ValueError:
        return now
    return min(since, now) if since >= EARLIEST_TIME else now


def _is_within_limits(ending: Completed) -> bool:
    """Whether no member is longer or greater than any that is written."""
    return (
        0 <= ending.replays <= MOST_REPLAYS
        and _EVENT_ID.fullmatch(ending.event_id) is not None
        and len(ending.journal) <= JOURNAL_LIMIT
        and len((ending.error_code or "").encode()) <= _ERROR_CODE_BYTES
    )


def _is_of(migration: MigrationRequest, ending: Completed, now: float) -> bool:
    """Whether the ending is of this request, not of the future, and its body is the event that it describes."""
    completed_at = from_text(ending.completed_at)
    if completed_at is None or completed_at > now + CLOCK_ALLOWANCE_SECONDS or ending.subject != migration.request_id:
        return False
    model = MigrationSucceeded if ending.succeeded else MigrationFailed
    event = model.model_validate_json(ending.body)
    described = (event.resolution, False) if isinstance(event, MigrationSucceeded) else (event.reason, event.parked)
    is_theirs = (event.request_id, event.project_id) == (migration.request_id, migration.project_id)
    return is_theirs and described == (ending.reason, ending.parked)


def _last_sent_at(text: bytes, now: float) -> float | None:
    """Never later than now: a clock ahead of ours must not make the request wait longer."""
    try:
        return min(float(text), now) if text else None
    except ValueError:  # Lua reads more as a number
        return None


def _completed_at(ending: Completed, now: float) -> float:
    return min(from_text(ending.completed_at) or now, now)

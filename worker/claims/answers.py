"""What the replies of Redis mean."""

import json
from typing import Any, Final

from schemas.timestamp import from_text
from worker.claims.wire import Reply
from worker.policy.claim import ClaimAnswer, Concluded, Granted, Held, Unavailable
from worker.policy.outcome import Ending

RECORD_LIMIT: Final = 65536
"""Bytes of an ending that is stored; longer ones are those that list hundreds of candidates."""


def written(ending: Ending) -> bytes:
    """The ending as it is stored."""
    return json.dumps(ending.to_record(), separators=(",", ":"), ensure_ascii=False).encode()


def answer(reply: Reply, now: float, *, is_remembered: bool) -> ClaimAnswer:
    """What a reply of scripts.TAKE answers. A record that cannot be read is as good as none: Unavailable.

    `is_remembered`: Redis has forgotten nothing for so long that "nobody claimed it before" can be believed.
    """
    if not isinstance(reply, bytes):
        return Unavailable()
    word, _, rest = reply.partition(b" ")
    try:
        match word:
            case b"new":
                return Granted(is_first=is_remembered)
            case b"held":
                return Held(rest.decode())
            case b"concluded":
                return Concluded(_ending(rest))
            case _:
                return Granted(is_first=False, last_sent_at=_last_sent_at(word, rest, now))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Unavailable()


def standing(reply: Reply) -> Ending | None:
    """The ending that a reply of scripts.CONCLUDE says is there already, in place of the one that was told."""
    try:
        return _ending(reply) if isinstance(reply, bytes) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _last_sent_at(word: bytes, rest: bytes, now: float) -> float | None:
    match word:
        case b"free":
            return float(rest) if rest else None
        case b"lost":  # its owner died with a create in flight, for all that is known
            return now
        case b"reopened":  # nothing was sent after the request had failed
            return from_text(_ending(rest).completed_at) or now
    raise ValueError(word)


def is_remembered(reply: Reply, now: float, seconds: float) -> bool:
    """Whether a reply of scripts.READ_MEMORY says that Redis has forgotten nothing for so many seconds."""
    try:
        return isinstance(reply, bytes) and max(0.0, now - float(reply)) >= seconds
    except ValueError:
        return False


def _ending(text: bytes) -> Ending:
    record: dict[str, Any] = json.loads(text)
    return Ending.from_record(record)

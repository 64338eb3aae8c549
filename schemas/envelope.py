"""The envelope: state that a request carries from delivery to delivery, in message headers.

Law: what a sender puts in a header never crashes or misleads the worker. State is believed only on a worker's own
copy; there, what cannot be read counts as "a create may have been sent just now".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self

from . import names
from .journal import EMPTY, Journal, Kind
from .last_error import LastError
from .timestamp import from_text, to_text

_CEILING: Final = 1_000_000  # no honest count comes near; a forged one stays a small number
_OWN: Final = names.STATE | names.BROKER | {names.JOURNAL}


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is known of a request at one delivery. Times are epoch seconds."""

    attempts: int
    """Create calls so far."""
    round: int
    """Retry levels used."""
    deliveries: int
    """All deliveries so far, this one included."""
    interruptions: int
    """Deliveries that ended without a word: their worker died or lost its channel."""
    replays: int
    """Times that an operator sent it again."""
    first_received_at: float
    last_sent_at: float | None
    """When a create call may last have been in flight; None: certainly never, by the headers' word."""
    is_repeat: bool
    """Not the first delivery of its request: a look-up precedes its create."""
    is_redelivered: bool
    """The broker delivered this very message before."""
    is_dated: bool = True
    """`first_received_at` is known; else it is only the time of a later delivery, and the first may be long ago."""
    journal: Journal = EMPTY
    """What was done for the request, for people. Without state headers beside it, it is a sender's own and not read."""
    is_own_copy: bool = field(default=True, compare=False)
    """A worker wrote the state headers; else those of the message are a sender's."""
    last_error: LastError | None = None
    """Of the last create that may have been sent, or that the request failed with."""

    @classmethod
    def read(cls, headers: Mapping[str, object], *, redelivered: bool, now: float, is_own_copy: bool = True) -> Self:
        """The state that `headers` carry, at a delivery at `now`.

        If it is no own copy, state headers only make it a repeat, which is looked for first.
        A redelivered message may still be in flight elsewhere: it may have been sent just now.
        """
        has_state = not names.STATE.isdisjoint(headers)
        is_own_copy = is_own_copy and has_state
        if not redelivered and not is_own_copy:
            return cls(0, 0, 1, 0, 0, now, None, has_state, False, is_own_copy=False)
        state = headers if is_own_copy else {}
        last_error = LastError.read(state.get(names.LAST_ERROR))
        readable = last_error is not None or names.LAST_ERROR not in state

        def count(name: str) -> int:
            nonlocal readable
            value = state.get(name, 0)
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _CEILING:
                return value
            readable = False
            return 0

        def time(name: str) -> float | None:
            nonlocal readable
            if name not in state:
                return None
            value = from_text(state[name])
            readable = readable and value is not None
            return None if value is None else min(value, now)

        broken = max(1, _count(headers, names.DELIVERY_COUNT)) if redelivered else 0
        first, last = time(names.FIRST_RECEIVED_AT), time(names.LAST_SENT_AT)
        read = cls(
            attempts=count(names.ATTEMPTS),
            round=count(names.ROUND),
            deliveries=count(names.DELIVERIES) + broken + 1,
            interruptions=count(names.INTERRUPTIONS) + broken,
            replays=count(names.REPLAYS),
            first_received_at=now if first is None else first,
            last_sent_at=now if redelivered else last,
            is_repeat=True,
            is_redelivered=redelivered,
            is_dated=first is not None and names.MAY_BE_OLDER not in state,
            journal=_journal(state, broken, now),
            is_own_copy=is_own_copy,
            last_error=last_error,
        )
        return read if readable else replace(read, last_sent_at=now)

    @property
    def is_known_repeat(self) -> bool:
        """A repeat by the word of the broker or a worker; the headers of a sender only have it looked up first."""
        return self.is_redelivered or (self.is_repeat and self.is_own_copy)

    @property
    def arrived_at(self) -> float | None:
        """When this message first arrived; None if that is unknown, since a delivery of it ended without a word."""
        return None if self.interruptions else self.first_received_at

    @property
    def created_since(self) -> float:
        """Tasks created before this are not the request's; 0 if its first delivery may be long ago."""
        return self.first_received_at if self.is_dated else 0.0

    @property
    def was_sent(self) -> bool:
        """A create was called for this very message, and what became of it may be unknown.

        After an interruption even that is not known: `last_sent_at` then says only that one may have been called.
        """
        return self.attempts > 0 and self.last_sent_at is not None and not self.interruptions

    @property
    def may_have_task(self) -> bool:
        """A create may have been sent for it, by more than the doubt of every redelivery."""
        return self.last_sent_at is not None and (self.attempts > 0 or not self.is_redelivered)

    @property
    def conflict(self) -> LastError | None:
        """The 409 that a create of the request was answered with: it is never created again."""
        return self.last_error if self.last_error is not None and self.last_error.is_conflict else None

    def sent_at_least(self, last_sent_at: float | None, last_error: LastError | None = None) -> Self:
        """The state with what is known of another copy: the later of both times of a create, and its conflict."""
        if last_sent_at is None:
            return self
        known = last_error if last_error is not None and last_error.is_conflict else self.last_error
        return replace(self, last_sent_at=max(last_sent_at, self.last_sent_at or last_sent_at), last_error=known)

    def failed_with(self, last_error: LastError) -> Self:
        """The state with a later error, which does not replace a conflict."""
        return self if self.conflict is not None else replace(self, last_error=last_error)

    def tried(self) -> Self:
        """The state with one more create call. Every request comes by, and `dataclasses.replace` takes its time."""
        return type(self)(
            self.attempts + 1,
            self.round,
            self.deliveries,
            self.interruptions,
            self.replays,
            self.first_received_at,
            self.last_sent_at,
            self.is_repeat,
            self.is_redelivered,
            self.is_dated,
            self.journal,
            self.is_own_copy,
            self.last_error,
        )

    def write(self, original: Mapping[str, object]) -> dict[str, object]:
        """Headers of a copy: the original's own, this state, and nothing that only the broker or a worker writes."""
        left_out = _OWN if self.is_own_copy else _OWN | names.MOVED_PROPERTIES
        prefixes = names.DEATH_PREFIXES if self.is_own_copy else (*names.DEATH_PREFIXES, names.PARKED_PREFIX)
        kept = {
            name: value for name, value in original.items() if name not in left_out and not name.startswith(prefixes)
        }
        kept[names.ATTEMPTS] = self.attempts
        kept[names.ROUND] = self.round
        kept[names.DELIVERIES] = self.deliveries
        kept[names.INTERRUPTIONS] = self.interruptions
        kept[names.FIRST_RECEIVED_AT] = to_text(self.first_received_at)
        if not self.is_dated:
            kept[names.MAY_BE_OLDER] = True
        if self.replays:
            kept[names.REPLAYS] = self.replays
        if self.last_sent_at is not None:
            kept[names.LAST_SENT_AT] = to_text(self.last_sent_at)
        if self.last_error is not None:
            kept[names.LAST_ERROR] = self.last_error.text()
        if self.journal:
            kept[names.JOURNAL] = self.journal.text()
        return kept


def is_parked_by_sender(headers: Mapping[str, object], queue: str) -> bool:
    """Whether a parked message is no copy of a worker: dead-lettered from the requests queue `queue` as a sender's.

    The broker does that to a message whose `expiration` ends, or that was delivered too often. A copy of a worker has
    no expiration. Brokers before 4.0 keep what a sender wrote into `x-death`, and count an entry of the same reason up.
    """
    deaths = headers.get(names.DEATHS, [])
    if not isinstance(deaths, list):
        return True
    return any(
        not isinstance(death, Mapping)
        or (death.get("queue") == queue and (death.get("exchange"), death.get("reason")) != ("", "delivery_limit"))
        for death in deaths
    )


def _journal(state: Mapping[str, object], broken: int, now: float) -> Journal:
    journal = Journal.read(state.get(names.JOURNAL)) or EMPTY
    return journal.add(now, Kind.REDELIVERED, n=broken) if broken else journal


def _count(headers: Mapping[str, object], name: str) -> int:
    value = headers.get(name)
    return value if isinstance(value, int) and 0 <= value <= _CEILING else 0

"""The envelope: state that a request carries from delivery to delivery, in message headers.

Law: what a sender puts in a header never crashes or misleads the worker. A state header that
cannot be read counts as "a create may have been sent just now".
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

from . import names
from .journal import EMPTY, Journal, Kind
from .timestamp import from_text, to_text

_CEILING: Final = 1_000_000  # no honest count comes near; a forged one stays a small number
_OWN: Final = names.STATE | names.BROKER | {names.JOURNAL}


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is known of a request at one delivery. Times are epoch seconds."""

    attempts: int
    """Create calls so far."""
    round: int
    """Places of the retry schedule used."""
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
    """`first_received_at` is known; else it is only the time of this delivery, and the first may be long ago."""
    journal: Journal = EMPTY
    """What was done for the request, for people. Without state headers beside it, it is a sender's own and not read."""

    @classmethod
    def read(cls, headers: Mapping[str, object], *, redelivered: bool, now: float) -> Self:
        """The state that `headers` carry, at a delivery at `now`.

        A redelivered message may still be in flight elsewhere: it may have been sent just now.
        """
        if not redelivered and names.STATE.isdisjoint(headers):
            return cls(0, 0, 1, 0, 0, now, None, False, False)
        readable = True

        def count(name: str) -> int:
            nonlocal readable
            value = headers.get(name, 0)
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _CEILING:
                return value
            readable = False
            return 0

        def time(name: str) -> float | None:
            nonlocal readable
            if name not in headers:
                return None
            value = from_text(headers[name])
            readable = readable and value is not None
            return None if value is None else min(value, now)

        broken = max(1, _count(headers, names.DELIVERY_COUNT)) if redelivered else 0
        interruptions = count(names.INTERRUPTIONS) + broken
        first, last = time(names.FIRST_RECEIVED_AT), time(names.LAST_SENT_AT)
        state = cls(
            attempts=count(names.ATTEMPTS),
            round=count(names.ROUND),
            deliveries=count(names.DELIVERIES) + broken + 1,
            interruptions=interruptions,
            replays=count(names.REPLAYS),
            first_received_at=now if first is None else first,
            last_sent_at=now if redelivered else last,
            is_repeat=True,
            is_redelivered=redelivered,
            is_dated=first is not None,
            journal=_journal(headers, broken, now),
        )
        return state if readable else replace(state, last_sent_at=now)

    @property
    def arrived_at(self) -> float | None:
        """When this message first arrived; None if that is unknown, since a delivery of it ended without a word."""
        return None if self.interruptions else self.first_received_at

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
        )

    def write(self, original: Mapping[str, object]) -> dict[str, object]:
        """Headers of a copy: the original's own, this state, and nothing of the broker's."""
        kept = {
            name: value
            for name, value in original.items()
            if name not in _OWN and not name.startswith(names.DEATH_PREFIXES)
        }
        kept[names.ATTEMPTS] = self.attempts
        kept[names.ROUND] = self.round
        kept[names.DELIVERIES] = self.deliveries
        kept[names.INTERRUPTIONS] = self.interruptions
        kept[names.FIRST_RECEIVED_AT] = to_text(self.first_received_at)
        if self.replays:
            kept[names.REPLAYS] = self.replays
        if self.last_sent_at is not None:
            kept[names.LAST_SENT_AT] = to_text(self.last_sent_at)
        if self.journal:
            kept[names.JOURNAL] = self.journal.text()
        return kept


def _journal(headers: Mapping[str, object], broken: int, now: float) -> Journal:
    written = None if names.STATE.isdisjoint(headers) else Journal.read(headers.get(names.JOURNAL))
    journal = written or EMPTY
    return journal.add(now, Kind.REDELIVERED, n=broken) if broken else journal


def _count(headers: Mapping[str, object], name: str) -> int:
    value = headers.get(name)
    return value if isinstance(value, int) and 0 <= value <= _CEILING else 0

"""The journal: what was done for a request, entry by entry, as JSON in one message header that travels with it.

Laws: no decision is made by it; it never grows beyond LIMIT; it holds no body and no secret, only words of the worker,
and error codes and request ids of DCS. What cannot be read there is dropped.
"""

import re
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from .timestamp import from_text, to_text

LIMIT: Final = 2048
"""Bytes of the text."""
ENTRIES: Final = 32
FIRST: Final = 6
"""So many are kept for good, and the newest: how it began says as much as how it stands."""
COUNT: Final = 1_000_000
LONGEST: Final = 1e9
"""Seconds."""
LATEST: Final = 2e11
"""Epoch seconds of a `since`, so that every entry has a time that can be written."""

GOT, EVIDENCE, CODE, ID = 32, 16, 24, 40
"""Characters of the words of an entry."""
_STRANGE: Final = re.compile(r'[^!-~]|["\\]')


class Kind(StrEnum):
    """What an entry tells of."""

    CREATE = "create"
    LOOKUP = "look"
    GATE = "gate"
    WAIT = "wait"
    RETURNED = "returned"
    REDELIVERED = "redelivered"
    PARKED = "parked"
    REPLAYED = "replayed"


KINDS: Final = (
    "`create`: the create call `n` ended. `look`: a look-up of the task ended. `gate`: a call waited for its turn. "
    "`wait`: the request went into the retry queue `n`. `returned`: a replica that drained, or had no Redis, "
    "handed it back. `redelivered`: `n` deliveries had ended without a result. `parked`: it needed an operator. "
    "`replayed`: an operator sent it again."
)

Word = Annotated[str, Field(pattern=r"^[!#-\[\]-~]*$")]


class Entry(BaseModel):
    """One thing that was done. What says nothing is left out."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    at: float = Field(ge=-LONGEST, le=LONGEST, description="Seconds from the journal's `since` to this.")
    did: Annotated[Kind, Field(description=KINDS)]
    got: Annotated[Word, Field(max_length=GOT, description="How it ended, why it waits, why it was parked.")] = ""
    n: Annotated[int, Field(ge=0, le=COUNT, description="Which one, or how many.")] = 0
    took: Annotated[float, Field(ge=0, le=LONGEST, description="Seconds of the call, or of the wait.")] = 0.0
    evidence: Annotated[
        Word, Field(max_length=EVIDENCE, description="What a failed call proves: `never_sent`, `refused`, `ambiguous`.")
    ] = ""
    code: Annotated[Word, Field(max_length=CODE, description="Error code that DCS or its gateway sent.")] = ""
    id: Annotated[Word, Field(max_length=ID, description="Request id that DCS gave the call.")] = ""


class Journal(BaseModel):
    """What was done for a request, from the oldest entry to the newest."""

    model_config = ConfigDict(frozen=True, strict=True)

    since: Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
    dropped: int = Field(
        default=0, ge=0, le=COUNT, description=f"Entries that were left out after the first {FIRST}, for want of room."
    )
    entries: tuple[Entry, ...] = Field(max_length=ENTRIES)

    def __bool__(self) -> bool:
        return bool(self.entries)

    def add(
        self,
        now: float,
        did: Kind,
        got: str = "",
        *,
        n: int = 0,
        took: float = 0.0,
        evidence: str = "",
        code: str | None = None,
        id_: str | None = None,
    ) -> "Journal":
        """This journal and what happened at `now` (epoch seconds)."""
        began = from_text(self.since) if self.entries else None
        since = now if began is None else began
        entry = Entry(
            at=round(max(-LONGEST, min(LONGEST, now - since)), 3),
            did=did,
            got=_word(got, GOT),
            n=min(n, COUNT),
            took=round(max(0.0, min(LONGEST, took)), 3),
            evidence=evidence,
            code=_word(code, CODE),
            id=_word(id_, ID),
        )
        return _bounded(to_text(since), self.dropped, (*self.entries, entry), ENTRIES)

    def text(self) -> str:
        """The header's value, of LIMIT bytes at most; empty if nothing was done."""
        if not self.entries:
            return ""
        journal = self
        while len(text := journal.model_dump_json(exclude_defaults=True)) > LIMIT:
            held = len(journal.entries)
            most = min(held - 1, held * LIMIT // len(text))
            journal = _bounded(journal.since, journal.dropped, journal.entries, most)
        return text

    def moment(self, entry: Entry) -> float:
        """When `entry` was made, in epoch seconds."""
        return (from_text(self.since) or 0.0) + entry.at

    @classmethod
    def read(cls, text: object) -> Self | None:
        """The journal in a header; None if the header has another content."""
        if not isinstance(text, str) or len(text) > LIMIT:
            return None
        try:
            journal = cls.model_validate_json(text)
        except ValueError:
            return None
        since = from_text(journal.since)
        return journal if since is not None and 0 <= since <= LATEST else None


EMPTY: Final = Journal(since=to_text(0.0), entries=())


def _word(text: str | None, length: int) -> str:
    """Printable ASCII that JSON leaves as it is."""
    return _STRANGE.sub("?", (text or "")[:length])


def _bounded(since: str, dropped: int, entries: tuple[Entry, ...], most: int) -> Journal:
    """`most` entries: left out are the oldest after the first ones, never the newest."""
    excess = max(0, len(entries) - most)
    kept = min(FIRST, len(entries) - excess - 1)
    left = (*entries[:kept], *entries[kept + excess :])
    return Journal(since=since, dropped=min(COUNT, dropped + excess), entries=left)

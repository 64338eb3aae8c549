"""A proof with a life: fetched once however many wait for it, renewed while the old one still serves."""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from worker.policy import backoff
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence

T = TypeVar("T")

PATIENCE: Final = 15.0
"""Seconds that a call waits for a proof that is being fetched, whatever else it waits for."""
SPACING: Final = 60.0
"""Seconds between two proofs that are fetched because the service refused the one before."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Time and chance: epoch seconds, a number in [0, 1), and a wait of so many seconds."""

    now: Callable[[], float] = time.time
    random_unit: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


def unproved(status: CallStatus, message: str, retry_after: float | None = None) -> CallError:
    """The fault of a call that was not made because there is no proof now; time helps."""
    return CallError(Evidence.NEVER_SENT, ErrorKind.RETRY, status, message, retry_after=retry_after)


@dataclass(frozen=True, slots=True, repr=False)
class Lease(Generic[T]):
    """A proof that is valid before `until`, and to be renewed from `renew_at` on (both epoch seconds)."""

    value: T
    renew_at: float
    until: float

    def __repr__(self) -> str:
        return f"<Lease until {self.until:.0f}>"


class Backoff:
    """Keeps failing fetches apart."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._failures = 0
        self._until = -math.inf
        self._fault: CallError | None = None

    def __repr__(self) -> str:
        return f"<Backoff: {self._failures} failures>"

    def held(self) -> CallError | None:
        """The last fault, with the seconds that are left to wait; None if the next fetch may begin."""
        rest = self._until - self._timing.now()
        return replace(self._fault, retry_after=rest) if self._fault is not None and rest > 0 else None

    def failed(self, fault: CallError) -> CallError:
        """A fetch ended with `fault`; the same, with the seconds to wait."""
        self._failures += 1
        pause = max(backoff.reconnect(self._failures, self._timing.random_unit()), fault.retry_after or 0.0)
        self._until = self._timing.now() + pause
        self._fault = replace(fault, retry_after=pause)
        return self._fault

    def worked(self) -> None:
        """A fetch did not fail."""
        self._failures = 0
        self._fault = None


class Slot(Generic[T]):
    """Holds one proof. `fetch` brings another one or a fault; it is never cancelled for a caller's sake."""

    def __init__(
        self,
        away: CallStatus,
        fetch: Callable[[], Awaitable[Lease[T] | CallError]],
        now: Callable[[], float],
    ) -> None:
        self._away = away
        self._fetch = fetch
        self._now = now
        self._lease: Lease[T] | None = None
        self._fetching: asyncio.Task[Lease[T] | CallError] | None = None
        self._dropped_at = -math.inf

    def __repr__(self) -> str:
        return f"<Slot {self._away.value}: {self._lease!r}>"

    @property
    def is_fetching(self) -> bool:
        """True while a fetch is under way."""
        return self._fetching is not None

    @property
    def lease(self) -> Lease[T] | None:
        """The proof at hand, if it is still valid."""
        return self._lease if self._lease is not None and self._now() < self._lease.until else None

    async def get(self) -> T | CallError:
        """The proof. Waits only if there is no valid one, and never longer than `PATIENCE`."""
        lease = self.lease
        if lease is not None:
            if self._now() >= lease.renew_at:
                self.begin()
            return lease.value
        fetching = self.begin()
        done, _ = await asyncio.wait({fetching}, timeout=PATIENCE)
        if not done or fetching.cancelled():
            return unproved(self._away, f"no answer within {PATIENCE:g} s")
        ending = fetching.result()
        return ending if isinstance(ending, CallError) else ending.value

    def begin(self) -> asyncio.Task[Lease[T] | CallError]:
        """Fetch a proof; joins the fetch that is under way, if any."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._run())
        return self._fetching

    def drop(self, refused: T) -> bool:
        """The service refused this proof; whether there is a point in another try."""
        lease, now = self._lease, self._now()
        if lease is None or refused != lease.value:
            return True
        if now < lease.renew_at:  # else its time was up, which says nothing about the next one
            if now - self._dropped_at < SPACING:
                return False
            self._dropped_at = now
        self._lease = None
        return True

    async def aclose(self) -> None:
        """End the fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})

    async def _run(self) -> Lease[T] | CallError:
        try:
            ending = await self._fetch()
            if not isinstance(ending, CallError):
                self._lease = ending
            return ending
        finally:
            self._fetching = None

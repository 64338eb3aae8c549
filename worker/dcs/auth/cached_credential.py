"""A credential that expires: fetched once however many wait for it, renewed while the old one still serves."""

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

MAX_CREDENTIAL_WAIT_SECONDS: Final = 15.0
"""How long a call waits at most for a credential that is being fetched."""
REFUSAL_SPACING_SECONDS: Final = 60.0
"""Between two credentials that are fetched because the service refused the one before."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Time and chance: epoch seconds, a number in [0, 1), and a wait of so many seconds."""

    now: Callable[[], float] = time.time
    random_unit: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


def no_credential(status: CallStatus, message: str, retry_after: float | None = None) -> CallError:
    """The error of a call that was not made because there is no credential now; time helps."""
    return CallError(Evidence.NEVER_SENT, ErrorKind.RETRY, status, message, retry_after=retry_after)


@dataclass(frozen=True, slots=True, repr=False)
class Credential(Generic[T]):
    """A credential that is valid before `until`, and to be renewed from `renew_at` on (both epoch seconds)."""

    value: T
    renew_at: float
    until: float

    def __repr__(self) -> str:
        return f"<Credential until {self.until:.0f}>"


class FetchBackoff:
    """Exponential backoff between fetches that fail."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._failures = 0
        self._until = -math.inf
        self._error: CallError | None = None

    def active_error(self) -> CallError | None:
        """The last error, with the seconds that are left to wait; None if the next fetch may start."""
        left = self._until - self._timing.now()
        return replace(self._error, retry_after=left) if self._error is not None and left > 0 else None

    def failed(self, error: CallError) -> CallError:
        """A fetch ended with `error`; returns it with the seconds to wait."""
        self._failures += 1
        pause = max(backoff.reconnect(self._failures, self._timing.random_unit()), error.retry_after or 0.0)
        self._until = self._timing.now() + pause
        self._error = replace(error, retry_after=pause)
        return self._error

    def worked(self) -> None:
        """A fetch did not fail."""
        self._failures = 0
        self._error = None


class CachedCredential(Generic[T]):
    """Holds one credential. `fetch` returns another one or an error; it is never cancelled because a caller is."""

    def __init__(
        self,
        unavailable: CallStatus,
        fetch: Callable[[], Awaitable[Credential[T] | CallError]],
        now: Callable[[], float],
    ) -> None:
        self._unavailable = unavailable
        self._fetch = fetch
        self._now = now
        self._credential: Credential[T] | None = None
        self._fetching: asyncio.Task[Credential[T] | CallError] | None = None
        self._dropped_at = -math.inf

    def __repr__(self) -> str:
        return f"<CachedCredential {self._unavailable.value}: {self._credential!r}>"

    @property
    def is_fetching(self) -> bool:
        """True while a fetch is under way."""
        return self._fetching is not None

    @property
    def credential(self) -> Credential[T] | None:
        """The present credential, if it is still valid."""
        return self._credential if self._credential is not None and self._now() < self._credential.until else None

    async def get(self) -> T | CallError:
        """The credential's value. Waits only if there is no valid one, for MAX_CREDENTIAL_WAIT_SECONDS at most."""
        credential = self.credential
        if credential is not None:
            if self._now() >= credential.renew_at:
                self.start_fetch()
            return credential.value
        fetching = self.start_fetch()
        done, _ = await asyncio.wait({fetching}, timeout=MAX_CREDENTIAL_WAIT_SECONDS)
        if not done or fetching.cancelled():
            return no_credential(self._unavailable, f"no answer within {MAX_CREDENTIAL_WAIT_SECONDS:g} s")
        result = fetching.result()
        return result if isinstance(result, CallError) else result.value

    def start_fetch(self) -> asyncio.Task[Credential[T] | CallError]:
        """Fetch a credential; joins the fetch that is under way, if any."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._run())
        return self._fetching

    def drop(self, refused: T) -> bool:
        """The service refused this credential; returns whether another try is worth while."""
        credential, now = self._credential, self._now()
        if credential is None or refused != credential.value:
            return True
        if now < credential.renew_at:  # else its time was up, which says nothing about the next one
            if now - self._dropped_at < REFUSAL_SPACING_SECONDS:
                return False
            self._dropped_at = now
        self._credential = None
        return True

    async def aclose(self) -> None:
        """End the fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})

    async def _run(self) -> Credential[T] | CallError:
        try:
            result = await self._fetch()
            if not isinstance(result, CallError):
                self._credential = result
            return result
        finally:
            self._fetching = None

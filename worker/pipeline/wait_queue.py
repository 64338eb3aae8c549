"""Wait queue of one region: permits that cannot be given out at once, in the order in which they were asked for."""

import asyncio
from collections.abc import Callable, Iterator
from math import inf
from typing import Generic, TypeVar

T = TypeVar("T")

Offer = Callable[[T, float], tuple[float, bool]]
"""Admits an item now: 0; else the seconds until it is asked again (infinite: at `wake`), and whether all behind it
must wait as well."""


class _Entry(Generic[T]):
    __slots__ = ("item", "too_late", "turn", "until")

    def __init__(self, item: T, until: float, too_late: Exception) -> None:
        self.item, self.until, self.too_late = item, until, too_late
        self.turn: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()


class WaitQueue(Generic[T]):
    """First in, first out. No task runs for it: items go when `wake` is called, or by its one timer.

    `take_back` is told of an item that was admitted in the moment in which its task was cancelled.
    """

    def __init__(self, offer: Offer[T], take_back: Callable[[T], None], clock: Callable[[], float]) -> None:
        self._offer, self._take_back, self._clock = offer, take_back, clock
        self._entries: dict[_Entry[T], None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[T]:
        return (entry.item for entry in self._entries)

    async def wait(self, item: T, until: float, too_late: Exception, *, is_first: bool = False) -> None:
        """Return once the item was admitted. Raises `too_late` at `until`, else what `remove` gives for the item.

        Items that come later must not have an earlier `until`. `is_first`: it goes before all that wait.
        """
        entry = _Entry(item, until, too_late)
        if is_first and self._entries:
            entry.until = next(iter(self._entries)).until
            self._entries = {entry: None, **self._entries}
        self._entries[entry] = None
        self.wake()
        try:
            error = await entry.turn
        except asyncio.CancelledError:
            if not entry.turn.cancelled() and entry.turn.result() is None:
                self._take_back(item)
            raise
        finally:
            self._entries.pop(entry, None)
        if error is not None:
            raise error

    def wake(self) -> None:
        """Let every item go that may."""
        now, next_at = self._clock(), inf
        for entry in tuple(self._entries):
            if entry.turn.done():  # its task was cancelled
                continue
            wait, is_for_all = (0.0, False) if entry.until <= now else self._offer(entry.item, now)
            if wait <= 0.0:
                self._end(entry, entry.too_late if entry.until <= now else None)
                continue
            next_at = min(next_at, entry.until, now + wait)
            if is_for_all:
                break
        self._wake_at(next_at)

    def remove(self, error_of: Callable[[T], Exception | None]) -> None:
        """Send items away with an error; None: the item stays."""
        for entry in tuple(self._entries):
            if not entry.turn.done() and (error := error_of(entry.item)) is not None:
                self._end(entry, error)

    def _end(self, entry: _Entry[T], error: Exception | None) -> None:
        del self._entries[entry]
        entry.turn.set_result(error)

    def _wake_at(self, at: float) -> None:
        if self._timer is not None and at >= self._timer_at and self._entries:
            return  # a timer that is early does no harm
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, at
        if at < inf:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, at - self._clock()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.wake()

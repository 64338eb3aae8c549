"""Wait queue of one region: permits that cannot be given out at once, in the order in which they were asked for."""

import asyncio
from collections.abc import Callable, Iterator
from math import inf
from typing import Generic, TypeVar

T = TypeVar("T")

Offer = Callable[[T, float], tuple[float, bool]]
"""Admits an item now: 0; else the seconds until it is asked again (infinite: at `wake`), and whether all behind it
must wait as well."""


class WaitQueue(Generic[T]):
    """First in, first out. No task runs for it: items go when `wake` is called, or by its one timer.

    `take_back` gets an item that was admitted in the moment in which its task was cancelled.
    """

    def __init__(self, offer: Offer[T], take_back: Callable[[T], None], clock: Callable[[], float]) -> None:
        self._offer, self._take_back, self._clock = offer, take_back, clock
        self._items: dict[asyncio.Future[Exception | None], T] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items.values())

    async def wait(self, item: T, *, is_first: bool) -> None:
        """Return once the item was admitted. Raises what `remove` gives for it. `is_first`: before all others."""
        turn: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        if is_first:
            self._items = {turn: item, **self._items}
        self._items[turn] = item
        self.wake()
        try:
            error = await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.result() is None:
                self._take_back(item)
            raise
        finally:
            self._items.pop(turn, None)
        if error is not None:
            raise error

    def wake(self) -> None:
        """Let every item go that may."""
        now, next_at = self._clock(), inf
        for turn, item in tuple(self._items.items()):
            if turn.done():  # its task was cancelled
                continue
            wait, blocks_all = self._offer(item, now)
            if wait <= 0.0:
                self._end(turn, None)
                continue
            next_at = min(next_at, now + wait)
            if blocks_all:
                break
        self._wake_at(next_at)

    def remove(self, error_of: Callable[[T], Exception | None]) -> None:
        """Send items away with an error; None: the item stays."""
        for turn, item in tuple(self._items.items()):
            if not turn.done() and (error := error_of(item)) is not None:
                self._end(turn, error)

    def _end(self, turn: asyncio.Future[Exception | None], error: Exception | None) -> None:
        del self._items[turn]
        turn.set_result(error)

    def _wake_at(self, at: float) -> None:
        if self._timer is not None and at >= self._timer_at and self._items:
            return  # a timer that is early does no harm
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, at
        if at < inf:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, at - self._clock()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.wake()

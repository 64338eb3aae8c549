"""Wait queue of one region: permits that cannot be granted at once, first in, first out.

No task runs for it: items go when `wake` is called, or by its one timer.
"""

import asyncio
from collections.abc import Callable, Hashable
from math import inf
from typing import Generic, TypeVar

T = TypeVar("T")

Offer = Callable[[T, float], tuple[float, bool]]
"""Admits an item now: 0; else the seconds until it is asked again (infinite: at `wake`), and whether all behind it
must wait as well, or only those that are alike."""


class WaitQueue(Generic[T]):
    """Items that wait. `take_back` gets one that was admitted in the moment in which its task was cancelled.

    `likeness` is equal for items of which none can be admitted if the first one cannot.
    """

    def __init__(
        self,
        offer: Offer[T],
        take_back: Callable[[T], None],
        likeness: Callable[[T], Hashable],
        clock: Callable[[], float],
    ) -> None:
        self._offer, self._take_back, self._likeness, self._clock = offer, take_back, likeness, clock
        self.items: dict[asyncio.Future[Exception | None], T] = {}
        """The items that wait, in their order, by the future that ends their wait."""
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, item: T, *, is_first: bool) -> None:
        """Return once the item was admitted. Raises what `remove` gives for it. `is_first`: before all others."""
        turn: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        if is_first:
            self.items = {turn: item, **self.items}
        self.items[turn] = item
        self.wake()
        try:
            error = await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.result() is None:
                self._take_back(item)
            raise
        finally:
            self.items.pop(turn, None)
        if error is not None:
            raise error

    def wake(self) -> None:
        """Let every item go that may."""
        now, next_wait, admitted = self._clock(), inf, []
        kept_back: set[Hashable] = set()
        for turn, item in self.items.items():
            if turn.done() or (likeness := self._likeness(item)) in kept_back:  # done: its task was cancelled
                continue
            wait, blocks_all = self._offer(item, now)
            if wait <= 0.0:
                admitted.append(turn)
                continue
            next_wait = min(next_wait, wait)
            if blocks_all:
                break
            kept_back.add(likeness)
        for turn in admitted:
            self._end(turn, None)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(next_wait, self.wake) if next_wait < inf else None

    def remove(self, error_of: Callable[[T], Exception | None]) -> None:
        """Send items away with an error; None: the item stays. The last ones go first."""
        for turn, item in reversed(tuple(self.items.items())):
            if not turn.done() and (error := error_of(item)) is not None:
                self._end(turn, error)

    def _end(self, turn: asyncio.Future[Exception | None], error: Exception | None) -> None:
        del self.items[turn]
        turn.set_result(error)

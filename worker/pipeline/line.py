"""A line: who cannot go at once waits, and they go in the order in which they came."""

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final, Generic, TypeVar

T = TypeVar("T")

Offer = Callable[[T, float], float]
"""Gives one what it needs to go and returns 0, or gives nothing and returns the seconds until it can be asked again."""

PATIENCE: Final = 60.0
"""Seconds that anybody waits: a delivery must not be held for long without being worked on, and the broker's patience
ends as well (https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout)."""


class Line(Generic[T]):
    """Those who wait. No task stands behind it: the next one is let go by who makes it possible, or by one timer."""

    def __init__(self, offer: Offer[T], take_back: Callable[[T], None], clock: Callable[[], float]) -> None:
        self._offer = offer
        self._take_back = take_back
        self._clock = clock
        self._waiting: deque[tuple[T, asyncio.Future[bool], float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._patience: asyncio.TimerHandle | None = None
        self._patience_ends = inf
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<Line: {len(self)} waiting>"

    async def turn(self, one: T, until: float) -> bool:
        """Wait for one's turn; False: it did not come before `until`, a moment of the clock."""
        if self._is_closed:
            return False  # who had a turn elsewhere in the moment of closing comes late
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((one, turn, until))
        self._be_patient(until)
        self.move()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self._take_back(one)
            raise

    def move(self) -> None:
        """Let go who can."""
        waiting = self._waiting
        while waiting:
            one, turn, _ = waiting[0]
            if not turn.done():
                now = self._clock()
                if (wait := self._offer(one, now)) > 0.0:
                    self._look_again(now, wait)
                    return
                turn.set_result(True)
            waiting.popleft()
        self._forget_timer()
        self._forget_patience()

    def _be_patient(self, until: float) -> None:
        """Look again at that moment at the latest who has waited long enough: one timer is enough for all."""
        if until >= self._patience_ends:
            return
        if self._patience is not None:
            self._patience.cancel()
        wait = max(0.0, until - self._clock())
        self._patience_ends, self._patience = until, asyncio.get_running_loop().call_later(wait, self._give_up)

    def _give_up(self) -> None:
        self._patience, self._patience_ends = None, inf
        now = self._clock()
        for _, turn, until in self._waiting:
            if until <= now:
                _tell(turn, False)
        self.move()
        if self._waiting:
            self._be_patient(min(until for _, turn, until in self._waiting if not turn.done()))

    def keep(self, count: int) -> None:
        """Send away all but the first ones."""
        while len(self._waiting) > count:
            _tell(self._waiting.pop()[1], False)

    def close(self) -> None:
        """Send everybody away, and whoever comes."""
        self._is_closed = True
        while self._waiting:
            _tell(self._waiting.popleft()[1], False)
        self._forget_timer()
        self._forget_patience()

    def _look_again(self, now: float, wait: float) -> None:
        if now + wait >= self._timer_at:  # a timer that is early only looks again
            return
        self._forget_timer()
        self._timer_at = now + wait
        self._timer = asyncio.get_running_loop().call_later(wait, self._ring)

    def _ring(self) -> None:
        self._timer, self._timer_at = None, inf
        self.move()

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, inf

    def _forget_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience, self._patience_ends = None, inf


def _tell(turn: asyncio.Future[bool], is_ours: bool) -> None:
    if not turn.done():
        turn.set_result(is_ours)

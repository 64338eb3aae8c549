"""Whether something is sick, and when to ask it again: the service in one region, or what it says to one project.

Closed, calls pass. Failures of several requests open it. Open, single calls probe it, further and further apart;
half-open is while one of them is under way, and its success closes the breaker. A call that began before the
last change tells nothing about the time after it (https://github.com/sony/gobreaker, generations).
"""

from collections import deque
from collections.abc import Hashable
from enum import IntEnum
from typing import Final

from worker.policy.tempo import Tempo


class State(IntEnum):
    """The value of the metric."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


PATIENCE: Final = 5.0
"""Seconds after which a probe without an answer no longer keeps the next one back."""
STEADY: Final = 10
"""Successes after which an outage is over: the next one begins with short intervals again."""
_WEIGHT: Final = 0.05
"""Of one call in the share of failures."""


class Breaker:
    """One breaker. Times are seconds of any one clock; `chance` is uniform in [0, 1)."""

    def __init__(self, tempo: Tempo | None = None) -> None:
        self.is_open = False
        self.since = 0.0
        """When it was opened last."""
        self.generation = 0
        self._tempo = tempo or Tempo()
        self._interval = self._tempo.first
        self._probe_at = self._due_at = self._probing_until = 0.0
        self._row = 0
        self._share = 0.0
        self._steady = STEADY
        self._failed: deque[Hashable] = deque(maxlen=self._tempo.row)

    def __repr__(self) -> str:
        return f"<Breaker: {self.state.name.lower()}>"

    @property
    def state(self) -> State:
        """Closed, half-open while a probe is under way, else open."""
        if not self.is_open:
            return State.CLOSED
        return State.HALF_OPEN if self._probing_until else State.OPEN

    def wait(self, now: float) -> float:
        """Seconds until a call may begin; 0: now."""
        return max(0.0, self._probe_at - now, self._probing_until - now) if self.is_open else 0.0

    def begin(self, now: float, random_unit: float) -> int:
        """A call begins, as a probe if the breaker is open; what to say when it ends."""
        if self.is_open:
            self.generation += 1
            self._probing_until = now + PATIENCE
            self._due_at = self._probe_at
            self._schedule(now, random_unit)
        return self.generation

    def succeeded(self, generation: int) -> bool:
        """A call was answered, be it by a refusal of its request. True: that closed the breaker."""
        if not self.is_open:
            self._row = 0
            self._share *= 1.0 - _WEIGHT
            self._steady += 1
            if self._steady == STEADY:
                self._interval = self._tempo.first
            return False
        if generation != self.generation:
            return False
        self._change(is_open=False)
        self._steady = 0
        return True

    def failed(self, generation: int, request: Hashable, now: float, random_unit: float) -> bool:
        """A call was not answered, or by a failure of what is asked. True: that opened the breaker."""
        if generation != self.generation:
            return False
        self._probing_until = 0.0
        if self.is_open or not self._is_too_much(request):
            return False
        self._change(is_open=True)
        self.since = now
        self._schedule(now, random_unit)
        return True

    def passed(self, generation: int) -> None:
        """A call told nothing, but was made: the next one keeps its time."""
        if generation == self.generation:
            self._probing_until = 0.0

    def void(self, generation: int) -> None:
        """A call ended without telling anything, or was not made: another one may take its place."""
        if generation == self.generation and self._probing_until:
            self._probing_until, self._probe_at = 0.0, self._due_at

    def _is_too_much(self, request: Hashable) -> bool:
        self._row += 1
        self._share += _WEIGHT * (1.0 - self._share)
        self._failed.append(request)
        is_sick = self._row >= self._tempo.row or self._share >= self._tempo.share
        return is_sick and len(set(self._failed)) >= self._tempo.requests

    def _schedule(self, now: float, random_unit: float) -> None:
        tempo = self._tempo
        self._probe_at = now + max(tempo.first, self._interval * (0.75 + random_unit / 4))
        self._interval = min(tempo.longest, self._interval * tempo.growth)

    def _change(self, *, is_open: bool) -> None:
        self.is_open = is_open
        self.generation += 1
        self._probing_until = self._share = 0.0
        self._row = 0
        self._failed.clear()

"""Circuit breaker of one region: stops the calls of a service that fails, and lets them in again one by one.

States and generations as in gobreaker (https://github.com/sony/gobreaker): closed, open, half-open; the result of a
call that began in an earlier generation is ignored. Open, probes that belong to no request ask whether the service
answers. Half-open, the first success closes the breaker, the first failure opens it again; the concurrency limit,
which begins with one call after an outage, says how many may try.
"""

from collections import deque
from collections.abc import Hashable
from enum import IntEnum
from typing import Final

from worker.policy import error_table
from worker.policy.call_result import CallError, CallResult, ErrorScope
from worker.policy.throttle.hold import REGION_TIMES, Probed

FAILURES_IN_A_ROW: Final = 5
WINDOW: Final = 20
FAILURES_IN_WINDOW: Final = WINDOW // 2
DIFFERENT_REQUESTS: Final = 3
"""One request whose calls all fail may itself be the cause. So many that another party answers are enough."""


class BreakerState(IntEnum):
    """The value of the metric."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class CircuitBreaker(Probed):
    """One breaker. Times are seconds of any one clock; `random_unit` is uniform in [0, 1)."""

    def __init__(self) -> None:
        super().__init__("breaker", (ErrorScope.SERVICE,), REGION_TIMES)
        self.state = BreakerState.CLOSED
        self.generation = 0
        """Changes with the state: which one a call began in."""
        self._recent: deque[tuple[Hashable, bool] | None] = deque(maxlen=WINDOW)
        """Request of each failed attempt, and whether another party answered; None for a success; the latest first."""

    def __repr__(self) -> str:
        return f"<CircuitBreaker: {self.state.name.lower()}>"

    @property
    def is_blocking(self) -> bool:
        """True while only probes are sent."""
        return self.state is BreakerState.OPEN

    def succeeded(self, generation: int) -> str:
        """The calls of an attempt were answered. Returns the event: `closed`, or nothing."""
        if generation != self.generation:
            return ""
        if self.state is BreakerState.CLOSED:
            self._recent.appendleft(None)
            return ""
        self._change(BreakerState.CLOSED)
        self.probes.reset()
        return "closed"

    def failed(
        self, generation: int, request: Hashable, now: float, random_unit: float, *, is_foreign: bool = False
    ) -> str:
        """A call was not answered, the service failed, or another party answered. Returns `opened`, `probed`, or ''."""
        if generation != self.generation:
            return ""
        self._recent.appendleft((request, is_foreign))
        event = "probed"
        if self.state is BreakerState.CLOSED:
            if not self._is_too_much():
                return ""
            self.since, event = now, "opened"
        self._change(BreakerState.OPEN)
        self.probes.schedule(now, random_unit)
        return event

    def probe_ended(self, result: CallResult, now: float) -> str:
        """A probe failed, was answered (requests may try), or was kept from the service. Returns the event."""
        if (is_failed := error_table.is_probe_refused(result, self.scopes)) is not False:
            self.error = result if is_failed and isinstance(result, CallError) else self.error
            return "probed"
        self._change(BreakerState.HALF_OPEN)
        return ""

    def _is_too_much(self) -> bool:
        failures = [failure for failure in self._recent if failure is not None]
        row = failures[: self._recent.index(None) if None in self._recent else WINDOW]
        foreign = [failure for failure in row if failure[1]]
        return any(
            len(failed) >= enough and len({request for request, _ in failed}) >= DIFFERENT_REQUESTS
            for failed, enough in ((row, FAILURES_IN_A_ROW), (failures, FAILURES_IN_WINDOW), (foreign, 1))
        )

    def _change(self, state: BreakerState) -> None:
        self.state = state
        self.generation += 1
        self._recent.clear()

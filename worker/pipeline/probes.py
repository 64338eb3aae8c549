"""Probes: list calls that belong to no request, sent as long as a breaker or a hold blocks its calls."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Final, Generic, TypeVar

from worker.policy.call_result import CallError, CallResult, CallStatus, ErrorKind, Evidence
from worker.policy.throttle.circuit_breaker import CircuitBreaker
from worker.policy.throttle.hold import Hold

R = TypeVar("R")
"""Region."""
Part = CircuitBreaker | Hold

PROBE_TIMEOUT_SECONDS: Final = 8.0
"""A probe that hangs for longer would hide that the service is back."""
HUNG: Final = CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.TIMEOUT, "the probe was not answered")


class Probes(Generic[R]):
    """The probes of one replica: one task for each part that blocks, until it does not.

    `send` makes the call for a part, in a region, for a project if one is given; `on_result` passes its result on.
    """

    def __init__(
        self,
        send: Callable[[Part, R, str], Awaitable[CallResult]],
        on_result: Callable[[Part, R, CallResult], None],
        clock: Callable[[], float],
        random_unit: Callable[[], float],
    ) -> None:
        self._send, self._on_result, self._clock, self._random_unit = send, on_result, clock, random_unit
        self._tasks: dict[Part, asyncio.Task[None]] = {}
        self._is_closed = False
        self._ended, self._is_due = asyncio.Event(), asyncio.Event()

    def begin(self, part: Part, region: R, project: str = "") -> None:
        """Send probes as long as a part blocks. `project`: the only one that is probed."""
        if self._is_closed:
            return
        self._tasks[part] = asyncio.get_running_loop().create_task(self._probe_while_blocking(part, region, project))

    def send_now(self, kinds: Collection[str]) -> None:
        """Probe parts of these kinds at once, and then at the shortest intervals again."""
        for part in self._tasks:
            if part.kind in kinds:
                part.probes.reset(self._clock())
        _wake_waiters(self._is_due)

    async def wait_for_first(self, hold: Hold) -> None:
        """Wait until the first probe has ended, or `close` is called."""
        while hold in self._tasks and not hold.is_held:
            await self._ended.wait()

    def close(self) -> None:
        """Send no further probes."""
        self._is_closed = True
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        _wake_waiters(self._ended)

    async def _probe_while_blocking(self, part: Part, region: R, project: str) -> None:
        while True:
            while (wait := part.probes.at - self._clock()) > 0.0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._is_due.wait()
            part.probes.schedule(self._clock(), self._random_unit())
            part.is_probing = True
            result: CallResult = HUNG
            with suppress(Exception):  # a time-out, or a defect, which must not block the part for ever
                async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                    result = await self._send(part, region, project)
            _wake_waiters(self._ended)  # they go on once the part knows the result
            self._on_result(part, region, result)
            if not part.is_blocking:
                self._tasks.pop(part, None)
                return


def _wake_waiters(event: asyncio.Event) -> None:
    """Wake those that wait for an event at this moment."""
    event.set()
    event.clear()

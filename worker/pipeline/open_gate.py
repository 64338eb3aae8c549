"""The gate that lets everybody through until it is closed: none may begin a call once this replica drains."""

import asyncio
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from worker.pipeline.ports import Permit
from worker.policy.call_result import CallError, GateClosedError, LookupResult, TaskCreated
from worker.policy.migration_request import MigrationRequest


class OpenGate:
    """Counts the calls in flight, until it is closed. How many there may be is bounded by the prefetch."""

    def __init__(self) -> None:
        self.in_use = 0
        self.is_closed = False
        self._sleepers: set[asyncio.Future[bool]] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'closed' if self.is_closed else 'open'}, {self.in_use} in use>"

    def permit(self, migration: MigrationRequest) -> AbstractAsyncContextManager[Permit]:
        """Leave to make one call. Raises GateClosedError, on entering, once closed."""
        return Leave(self)

    async def pause(self, seconds: float) -> bool:
        """Wait between two tries; False as soon as the gate is closed."""
        if self.is_closed:
            return False
        loop = asyncio.get_running_loop()
        sleeper = loop.create_future()
        timer = loop.call_later(seconds, _wake, sleeper, True)
        self._sleepers.add(sleeper)
        try:
            is_over: bool = await sleeper
            return is_over
        finally:
            timer.cancel()
            self._sleepers.discard(sleeper)

    def close(self) -> None:
        """Let no further call begin, and wake whoever waits between two tries."""
        self.is_closed = True
        for sleeper in self._sleepers:
            _wake(sleeper, False)

    def enter(self) -> None:
        """A call begins. Raises GateClosedError once closed."""
        if self.is_closed:
            raise GateClosedError
        self.in_use += 1


def _wake(sleeper: asyncio.Future[bool], is_over: bool) -> None:
    if not sleeper.done():
        sleeper.set_result(is_over)


class Leave:
    """Leave to make one call."""

    __slots__ = ("_gate",)

    def __init__(self, gate: OpenGate) -> None:
        self._gate = gate

    async def __aenter__(self) -> Self:
        self._gate.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate.in_use -= 1

    def ended(self, ending: TaskCreated | LookupResult | CallError) -> None:
        """Tell how the call went."""

"""Event loop on a virtual clock: it never waits, it moves its clock to the next timer.

Every callback belongs to the process whose code scheduled it. The callbacks of a frozen process wait until it resumes,
with its timers overdue; those of a process that has ended never run.
"""

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Self, TypeVarTuple


class ReplicaProcess:
    """A process of a replica, which can freeze and end."""

    __slots__ = ("frozen_callbacks", "has_ended")

    def __init__(self) -> None:
        self.has_ended = False
        self.frozen_callbacks: list[ProcessCallback] | None = None
        """Callbacks that run when it resumes; None while it is not frozen."""


CURRENT_PROCESS: Final[contextvars.ContextVar[ReplicaProcess | None]] = contextvars.ContextVar("life", default=None)


class ProcessCallback(asyncio.TimerHandle):
    """A callback, with the process that it belongs to."""

    __slots__ = ("process",)

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None,
    ) -> None:
        # The base class would do the same, at three times the cost.
        self._context = context = contextvars.copy_context() if context is None else context
        self._loop, self._callback, self._args, self._when = loop, callback, args, when
        self._cancelled, self._scheduled = False, False
        self._repr = self._source_traceback = None
        self.process = context.get(CURRENT_PROCESS)


Ts = TypeVarTuple("Ts")


class RunTooLongError(Exception):
    """A run that is not over at its bound."""


class VirtualEventLoop(asyncio.AbstractEventLoop):
    """Event loop with what tasks, futures, timeouts and sleeps need."""

    def __init__(self) -> None:
        self.now = 0.0
        self.errors: list[str] = []
        """Exceptions that no code caught."""
        self._ready: deque[ProcessCallback] = deque()
        self._timers: list[tuple[float, int, ProcessCallback]] = []
        self._number = 0
        self._check_one_task: list[asyncio.Task[Any]] = []

    def time(self) -> float:
        """Seconds since the run began."""
        return self.now

    def get_debug(self) -> bool:
        """False: debugging is done with the timeline."""
        return False

    def is_running(self) -> bool:
        """True: all code that asks is run by this loop."""
        return True

    def is_closed(self) -> bool:
        """False: it has no resource to close."""
        return False

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **named: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        """A task of this loop."""
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, **named)
        self._check_one_task.append(task)
        return task

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Run the callback after those that are due already."""
        step = ProcessCallback(self.now, callback, args, self, context)
        self._ready.append(step)
        return step

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Run the callback after `delay` virtual seconds."""
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Run the callback at a virtual time."""
        step = ProcessCallback(when, callback, args, self, context)
        self._number += 1
        heapq.heappush(self._timers, (when, self._number, step))
        return step

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Keep an exception that no code caught."""
        self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is dropped when its turn comes."""

    def wake(self, process: ReplicaProcess) -> None:
        """Resume a frozen process: its waiting callbacks become due."""
        frozen_callbacks, process.frozen_callbacks = process.frozen_callbacks, None
        self._ready.extend(frozen_callbacks or ())

    def run(self, *, until: float, max_callbacks: int) -> None:
        """Run until no callback is left. Raises RunTooLongError at a virtual time or a number of callbacks."""
        asyncio._set_running_loop(self)
        try:
            while self._ready or self._advance(until):
                max_callbacks -= 1
                if max_callbacks < 0:
                    raise RunTooLongError(f"too many callbacks at {self.now:.1f} s")
                self._run(self._ready.popleft())
        finally:
            asyncio._set_running_loop(None)

    def _advance(self, until: float) -> bool:
        """Move the clock to the next timer; False if there is none."""
        timers = self._timers
        while timers:
            when, _, step = heapq.heappop(timers)
            if step._cancelled:
                continue
            if when > until:
                raise RunTooLongError(f"not over after {until:.0f} s")
            self.now = max(self.now, when)
            self._ready.append(step)
            return True
        return False

    def _run(self, step: ProcessCallback) -> None:
        process = step.process
        if step._cancelled or (process is not None and process.has_ended):
            return
        if process is not None and process.frozen_callbacks is not None:
            process.frozen_callbacks.append(step)
        else:
            step._run()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Drop unfinished tasks without warnings."""
        asyncio._set_running_loop(self)
        for task in self._check_one_task:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                coroutine = task.get_coro()
                assert isinstance(coroutine, Coroutine)
                with suppress(RuntimeError):
                    coroutine.close()
        asyncio._set_running_loop(None)
        self._ready.clear()
        self._timers.clear()
        self._check_one_task.clear()


class Timers:
    """Timers of the world around the replicas, which belong to no process."""

    def __init__(self, loop: VirtualEventLoop) -> None:
        self.loop = loop
        self.context = contextvars.copy_context()

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return self.loop.now

    def after(self, seconds: float, callback: Callable[..., object], *args: Any) -> None:
        """Call back in `seconds`."""
        self.loop.call_later(seconds, callback, *args, context=self.context)

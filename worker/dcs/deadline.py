"""An end for every wait of one kind: as `asyncio.timeout`, but one timer, which is set now and then, serves all."""

import asyncio
from types import TracebackType


class Deadline:
    """How long a wait may take: `with deadline.kept(): await ...`. To be used in one event loop."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._open: dict[_Wait, None] = {}  # the oldest first
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Deadline {self.seconds:g} s: {len(self._open)} wait>"

    def kept(self) -> "_Wait":
        """A context in which the present task is ended after so many seconds. Raises TimeoutError then."""
        return _Wait(self)

    def begin(self, wait: "_Wait") -> None:
        """A wait begins."""
        loop = asyncio.get_running_loop()
        wait.until = loop.time() + self.seconds
        self._open[wait] = None
        if self._timer is None:
            self._timer = loop.call_at(wait.until, self._look)

    def end(self, wait: "_Wait") -> None:
        """A wait is over."""
        self._open.pop(wait, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for wait in list(self._open):
            if wait.until > loop.time():
                self._timer = loop.call_at(wait.until, self._look)
                return
            del self._open[wait]
            wait.expire()


class _Wait:
    __slots__ = ("_cancelled_before", "_deadline", "_is_expired", "_task", "until")

    def __init__(self, deadline: Deadline) -> None:
        self.until = 0.0
        self._deadline = deadline
        self._is_expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelled_before = task, task.cancelling()
        self._deadline.begin(self)

    def expire(self) -> None:
        """The time is over."""
        self._is_expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadline.end(self)
        # Somebody else may have cancelled as well: that goes on.
        is_ours = self._is_expired and self._task.uncancel() <= self._cancelled_before
        if is_ours and kind is asyncio.CancelledError:
            raise TimeoutError from error

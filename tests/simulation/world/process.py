"""One life of a replica: whose code a callback is, so that it can stand still, or be gone."""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any, Final


class ReplicaProcess:
    """Whose code a callback is: one life of a replica."""

    __slots__ = ("frozen_callbacks", "has_ended")

    def __init__(self) -> None:
        self.has_ended = False
        self.frozen_callbacks: list[ProcessCallback] | None = None
        """What it has to catch up with when it wakes; None while it runs."""


CURRENT_PROCESS: Final[contextvars.ContextVar[ReplicaProcess | None]] = contextvars.ContextVar("life", default=None)


class ProcessCallback(asyncio.TimerHandle):
    """One callback, with the life it belongs to."""

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

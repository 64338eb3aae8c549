"""One life of a replica: whose code a callback is, so that it can stand still, or be gone."""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any, Final


class Life:
    """Whose code a callback is: one life of a replica."""

    __slots__ = ("held", "is_gone")

    def __init__(self) -> None:
        self.is_gone = False
        self.held: list[Step] | None = None
        """What it has to catch up with when it wakes; None while it runs."""


LIFE: Final[contextvars.ContextVar[Life | None]] = contextvars.ContextVar("life", default=None)


class Step(asyncio.TimerHandle):
    """One callback, with the life it belongs to."""

    __slots__ = ("life",)

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
        self.life = context.get(LIFE)

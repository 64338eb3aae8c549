"""Answers as they come: waited for as long as any come, so that a slow machine takes longer, and no more."""

import asyncio
from collections.abc import AsyncIterable, Callable
from typing import Protocol

from worker.tools.demo.outcomes import OutcomeTracker


class EventMessage(Protocol):
    """An event: its routing key, and its body."""

    @property
    def kind(self) -> str:
        """The routing key."""
        ...

    @property
    def body(self) -> bytes:
        """The body."""
        ...


async def collect(
    events: AsyncIterable[EventMessage],
    tally: OutcomeTracker,
    progress: Callable[[OutcomeTracker], None],
    max_silence_seconds: float,
) -> bool:
    """Tell the tally of events until every copy of every request is answered; False: none came for `patience` s."""
    arriving = aiter(events)
    while not tally.is_complete:
        try:
            async with asyncio.timeout(max_silence_seconds):
                event = await anext(arriving)
        except TimeoutError:
            return False
        tally.event(event.kind, event.body)
        progress(tally)
    return True

"""A line by itself: nobody waits longer than its own patience, though one timer serves all."""

import asyncio
from math import inf

from tests.pipeline.virtual_time.event_loop import VirtualTime
from worker.pipeline.line import Line


def test_each_waiter_times_out_separately() -> None:
    """Also who came later and has waited elsewhere before; and who comes when the line was empty meanwhile."""
    loop = VirtualTime()
    given_up: list[tuple[str, float]] = []

    async def wait(line: Line[str], one: str, until: float) -> None:
        assert not await line.turn(one, until)
        given_up.append((one, round(loop.time(), 6)))

    async def walk() -> None:
        line: Line[str] = Line(lambda *_: inf, lambda _: None, loop.time)
        await asyncio.gather(wait(line, "patient", 60.0), wait(line, "tired", 10.0), wait(line, "ready", 30.0))
        await wait(line, "late", 61.0)

    loop.run_until_complete(walk())
    loop.close()
    assert given_up == [("tired", 10.0), ("ready", 30.0), ("patient", 60.0), ("late", 61.0)]


def test_a_waiter_that_leaves_does_not_change_the_timeout_of_others() -> None:
    """A timer that is left behind would wake a line in which nobody waits."""
    loop = VirtualTime()
    free = [inf]

    async def walk() -> None:
        line: Line[str] = Line(lambda *_: free[0], lambda _: None, loop.time)
        turn = asyncio.ensure_future(line.turn("one", 60.0))
        await asyncio.sleep(1.0)
        free[0] = 0.0
        line.move()
        assert await turn
        await asyncio.sleep(0)

    loop.run_until_complete(walk())
    assert not [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
    loop.close()

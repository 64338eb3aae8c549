"""Fixtures: worlds and throttles in virtual time."""

from collections.abc import Callable, Iterator

import pytest

from tests.pipeline.virtual_time.throttle_bench import ThrottleBench
from tests.pipeline.virtual_time.world import World
from worker.policy.call_result import (
    TaskCreated,
)

DONE = TaskCreated("i")


@pytest.fixture
def bench() -> Iterator[ThrottleBench]:
    """A bench whose credentials were accepted once."""
    bench = ThrottleBench()
    bench.calls(DONE)
    yield bench
    bench.world.close()


@pytest.fixture
def build() -> Iterator[Callable[..., World]]:
    """Factory of worlds, which are closed after the test."""
    worlds: list[World] = []

    def make(*arguments: int, **named: object) -> World:
        world = World(*arguments, **named)  # type: ignore[arg-type]
        worlds.append(world)
        return world

    yield make
    for world in worlds:
        world.close()

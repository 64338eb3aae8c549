"""What several unit tests stand on: a stand-in in process whose time is in their hands, and a caller of it."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from worker.tools.standin import StandIn

START = 1_700_000_000.0


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        """Epoch seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The stand-in's clock."""
    return Clock()


@pytest.fixture
async def standin(clock: Clock) -> AsyncIterator[StandIn]:
    """A healthy stand-in whose time is in our hands."""
    async with StandIn(clock=clock) as running:
        yield running


@pytest.fixture
async def client(standin: StandIn) -> AsyncIterator[aiohttp.ClientSession]:
    """A caller with five seconds of patience."""
    async with aiohttp.ClientSession(standin.url, timeout=aiohttp.ClientTimeout(5)) as session:
        yield session

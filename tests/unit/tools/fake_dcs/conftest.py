"""What several unit tests stand on: a fake DCS in process whose time is in their hands, and a caller of it."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from worker.tools.fake_dcs import FakeDcs

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
    """The fake DCS's clock."""
    return Clock()


@pytest.fixture
async def fake_dcs(clock: Clock) -> AsyncIterator[FakeDcs]:
    """A healthy fake DCS whose time is in our hands."""
    async with FakeDcs(clock=clock) as running:
        yield running


@pytest.fixture
async def client(fake_dcs: FakeDcs) -> AsyncIterator[aiohttp.ClientSession]:
    """A caller with five seconds of patience."""
    async with aiohttp.ClientSession(fake_dcs.url, timeout=aiohttp.ClientTimeout(5)) as session:
        yield session

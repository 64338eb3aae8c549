"""Fixtures of the fake DCS's tests: a server in this process with a clock that is set by hand, and a client."""

from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from tests.fakes.clock import FakeClock
from worker.tools.fake_dcs import FakeDcs


@pytest.fixture
def clock() -> FakeClock:
    """The fake DCS's clock."""
    return FakeClock()


@pytest.fixture
async def fake_dcs(clock: Callable[[], float]) -> AsyncIterator[FakeDcs]:
    """A healthy fake DCS whose clock is set by hand."""
    async with FakeDcs(clock=clock) as running:
        yield running


@pytest.fixture
async def client(fake_dcs: FakeDcs) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client of the fake DCS with a timeout of 5 s."""
    async with aiohttp.ClientSession(fake_dcs.url, timeout=aiohttp.ClientTimeout(5)) as session:
        yield session

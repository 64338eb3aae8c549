"""Fixtures: the fake DCS of the tests in this process with a clock that is set by hand, and a client."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.faulty_dcs import FaultyDcs
from tests.unit.tools.fake_dcs.conftest import client, clock

__all__ = ["client", "clock"]


@pytest.fixture
async def fake_dcs(clock: FakeClock) -> AsyncIterator[FaultyDcs]:
    """A healthy fake DCS whose clock is set by hand."""
    async with FaultyDcs(clock=clock) as running:
        yield running

"""Fixtures of the tests of observability."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.otlp_collector import Collector


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """A trace collector for one test."""
    async with Collector() as running:
        yield running

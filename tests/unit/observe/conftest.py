"""Fixtures of the tests of observability."""

import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.fakes.otlp_collector import Collector


@pytest.fixture(autouse=True)
def library_logging() -> Iterator[None]:
    """Restores the standard library's logging after each test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """A trace collector for one test."""
    async with Collector() as running:
        yield running

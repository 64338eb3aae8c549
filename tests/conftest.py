"""Fixtures of all tests: a bare environment, hypothesis without deadlines."""

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A busy machine makes an example slow, not wrong; slow tests are pytest-timeout's to end.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads what happens to be set where the suite runs."""
    for name in list(os.environ):
        if name.startswith(("WORKER_", "HUAWEICLOUD_SDK_", "OTEL_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    """Commands and workers change the logging of their process, which is ours when a test runs one in it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("aiormq").setLevel(logging.NOTSET)

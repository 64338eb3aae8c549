"""Working directory and terminal of the command tests."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands read `.env` of the working directory, which therefore is empty."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests read whole lines; those of the layout set COLUMNS themselves."""
    monkeypatch.setenv("COLUMNS", "1000")

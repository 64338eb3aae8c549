"""Findings about the configuration: the way to keys that is used, and variables that are not."""

from pathlib import Path

import pytest

from worker.cli.doctor.configuration import read_configuration
from worker.policy.diagnostics import CheckResult

TOKEN_FILE = "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the variables of pod identity, and a working directory without a `.env` file."""
    (tmp_path / "token").write_text("t")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(TOKEN_FILE, str(tmp_path / "token"))
    monkeypatch.setenv("HC_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.1.1/v1")


def test_way_of_the_platform_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The identity of the workload, else the metadata."""
    monkeypatch.setenv("WORKER_CREDENTIALS", "platform")
    _, _, (check,) = read_configuration()
    assert "credentials by platform (pod identity)" in check.found

    monkeypatch.delenv(TOKEN_FILE)
    monkeypatch.delenv("HC_CONTAINER_CREDENTIALS_FULL_URI")
    _, _, (check,) = read_configuration()
    assert "credentials by platform (metadata)" in check.found


@pytest.mark.parametrize("is_configured", [True, False])
def test_unused_identity_is_named(monkeypatch: pytest.MonkeyPatch, is_configured: bool) -> None:
    """Beside other credentials, and beside none, with what to set."""
    if is_configured:
        monkeypatch.setenv("WORKER_AUTH_TOKEN", "t")
    _, has_credentials, checks = read_configuration()

    (hint,) = (check for check in checks if check.result is CheckResult.WARNING)
    assert has_credentials == is_configured
    assert (hint.subject, hint.found) == ("HC_CONTAINER_CREDENTIALS_FULL_URI", "is not used")
    assert hint.remedy == "set WORKER_CREDENTIALS=platform alone to use pod identity"

"""`doctor` as a command: what it says and how it ends where there is nothing to connect to."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from worker.cli.app import app
from worker.tools.nodes import free_port

ROOT = Path(__file__).parents[4]
PASSWORD = "hunter2-of-the-broker"
TOKEN = "token-that-nobody-may-see"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads a `.env` that lies about."""
    monkeypatch.chdir(tmp_path)


def _nowhere(**changes: str) -> dict[str, str]:
    """A right configuration whose every address refuses."""
    port = free_port()
    return {
        "WORKER_AMQP_URL": f"amqp://someone:{PASSWORD}@127.0.0.1:{port}/",
        "WORKER_CLAIMS_URL": f"redis://someone:{PASSWORD}@127.0.0.1:{port}/0",
        "WORKER_DCS_ENDPOINTS": json.dumps({"cn-north-4": f"http://127.0.0.1:{port}"}),
        "WORKER_AUTH_TOKEN": TOKEN,
        "WORKER_HTTP_HOST": "127.0.0.1",
        "WORKER_HTTP_PORT": str(free_port()),
    } | changes


def _doctor(*options: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *options], env=environment)


def _found(result: Result) -> dict[str, dict[str, Any]]:
    checks = json.loads(result.stdout)["checks"]
    return {f"{one['check']} {one['subject'] or ''}".strip(): one for one in checks}


def test_nothing_reachable_is_69_with_a_remedy_each() -> None:
    """Broker, Redis and DCS are named with their stage of failure; what needs no server is checked all the same."""
    environment = _nowhere()
    result = _doctor("--json", **environment)

    found = _found(result)
    assert (result.exit_code, json.loads(result.stdout)["status"]) == (69, 69)
    failed = {name.split()[0]: one for name, one in found.items() if one["result"] == "failed"}
    assert failed.keys() == {"broker", "Redis", "DCS"}
    assert all("Connection refused" in one["found"] for one in failed.values())
    assert "WORKER_AMQP_URL" in failed["broker"]["remedy"]
    assert found["HTTP port 127.0.0.1:" + environment["WORKER_HTTP_PORT"]]["result"] == "ok"
    assert found["credentials"]["result"] == "not checked"
    assert "--project" in found["credentials"]["remedy"]


def test_no_password_is_printed() -> None:
    """Neither form of the answer repeats a password or a token."""
    for options in ((), ("--json",)):
        output = _doctor(*options, **_nowhere()).output
        assert PASSWORD not in output
        assert TOKEN not in output


def test_every_problem_of_the_configuration_is_a_finding() -> None:
    """A wrong configuration ends with 78, one finding for each problem; nothing else is tried."""
    result = _doctor(WORKER_TRIES="many", WORKER_SETTLE="20", WORKER_AUTH_TOKEN=TOKEN)

    assert result.exit_code == 78
    assert "WORKER_TRIES" in result.stdout
    assert "-> correct WORKER_TRIES, or unset it: the default is 3" in result.stdout
    assert "WORKER_SETTLE" in result.stdout
    assert "broker" not in result.stdout
    assert result.stdout.endswith("2 failed, 1 not checked\n")


def test_without_credentials_all_else_is_checked() -> None:
    """Credentials that are missing are a problem of the configuration, and keep nobody from looking at the broker."""
    result = _doctor("--json", "--project", "p", **_nowhere(WORKER_AUTH_TOKEN=""))

    found = _found(result)
    assert result.exit_code == 78
    assert found["configuration credentials"]["result"] == "failed"
    assert {name.split()[0] for name, one in found.items() if one["result"] == "failed"} >= {"broker", "DCS"}
    assert found["credentials"]["result"] == "not checked"


def test_a_misspelt_variable_is_a_warning() -> None:
    """It is named with the one that was probably meant."""
    found = _found(_doctor("--json", **_nowhere(WORKER_PREFECH="3")))

    warning = found["configuration WORKER_PREFECH"]
    assert (warning["result"], warning["remedy"]) == ("warning", "rename it to WORKER_PREFETCH, or unset it")


def test_reconciliation_off_is_a_warning() -> None:
    """An operator is told what that means, and how to turn it on."""
    found = _found(_doctor("--json", **_nowhere(WORKER_RECONCILE="off")))

    assert (found["reconciliation"]["result"], found["reconciliation"]["remedy"]) == (
        "warning",
        "set WORKER_RECONCILE=ambiguous",
    )


@pytest.mark.parametrize("variable", ["WORKER_AMQP_CA_FILE", "WORKER_DCS_CA_FILE"])
def test_a_file_without_certificates_is_78(variable: str, tmp_path: Path) -> None:
    """A file that was never meant to hold authorities is a finding, not a traceback."""
    (tmp_path / "file").write_text("nothing of that kind")
    url = f"amqps://someone:{PASSWORD}@127.0.0.1:{free_port()}/"
    result = _doctor(**_nowhere(WORKER_AMQP_URL=url, **{variable: str(tmp_path / "file")}))

    assert result.exit_code == 78
    assert f"-> correct {variable}" in result.stdout


@pytest.mark.parametrize(
    "options",
    [
        ("--project", "../../admin"),
        ("--region", "nowhere-1"),
        ("--management", "ftp://127.0.0.1"),
        ("--management", "http://[::1"),
        ("--management", "http://user:password@127.0.0.1:15672"),
    ],
)
def test_an_option_that_cannot_be_used_is_wrong_usage(options: tuple[str, str]) -> None:
    """It ends with 2 before anything is asked."""
    result = _doctor(*options, **_nowhere())

    assert (result.exit_code, result.stdout) == (2, "")
    assert options[0] in result.stderr


def test_the_password_of_an_encrypted_broker_stays_encrypted() -> None:
    """Management in the clear is refused where the broker itself is not."""
    url = f"amqps://someone:{PASSWORD}@127.0.0.1:{free_port()}/"
    result = _doctor("--management", "http://127.0.0.1:15672", **_nowhere(WORKER_AMQP_URL=url))

    assert result.exit_code == 2
    assert "https://" in result.stderr


def _on_a_terminal(folder: Path, **environment: str) -> str:
    """What a person sees who runs `doctor` with a broken configuration."""
    ours, theirs = pty.openpty()
    told = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "TERM": "xterm", "WORKER_TRIES": "many", **environment}
    try:
        command = [sys.executable, "-m", "worker", "doctor"]
        subprocess.run(
            command, env=told, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, timeout=60, check=False
        )
        return os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_colours_are_for_terminals_that_want_them(tmp_path: Path) -> None:
    """There are some on a terminal, none with NO_COLOR, and none in a pipe."""
    assert "\x1b[1;31mFAILED" in _on_a_terminal(tmp_path)
    assert "\x1b" not in _on_a_terminal(tmp_path, NO_COLOR="1")
    assert "\x1b" not in _doctor(WORKER_TRIES="many").stdout

"""`doctor` as a command without any reachable service: findings, output and exit status."""

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
from worker.tools.servers import free_port

ROOT = Path(__file__).parents[4]
PASSWORD = "password-of-the-broker"
TOKEN = "token-that-must-not-be-printed"


def _unreachable(**changes: str) -> dict[str, str]:
    """A valid configuration whose addresses all refuse connections."""
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
    return {f"{check['check']} {check['subject'] or ''}".strip(): check for check in checks}


def test_unreachable_services_exit_with_69_and_have_a_remedy_each() -> None:
    """Broker, Redis and DCS fail with their stage; what needs no server is checked too."""
    environment = _unreachable()
    result = _doctor("--json", **environment)

    found = _found(result)
    assert (result.exit_code, json.loads(result.stdout)["status"]) == (69, 69)
    failed = {name.split()[0]: check for name, check in found.items() if check["result"] == "failed"}
    assert failed.keys() == {"broker", "Redis", "DCS"}
    assert all("Connection refused" in check["found"] for check in failed.values())
    assert "WORKER_AMQP_URL" in failed["broker"]["remedy"]
    assert found["HTTP port 127.0.0.1:" + environment["WORKER_HTTP_PORT"]]["result"] == "ok"
    assert found["credentials"]["result"] == "not checked"
    assert "--project" in found["credentials"]["remedy"]


def test_output_has_no_password_and_no_token() -> None:
    """Neither the table nor the JSON."""
    for options in ((), ("--json",)):
        output = _doctor(*options, **_unreachable()).output
        assert PASSWORD not in output
        assert TOKEN not in output


def test_each_invalid_variable_is_a_finding_and_nothing_else_is_checked() -> None:
    """The exit status is 78."""
    result = _doctor(WORKER_TRIES="many", WORKER_SETTLE="20", WORKER_AUTH_TOKEN=TOKEN)

    assert result.exit_code == 78
    assert "WORKER_TRIES" in result.stdout
    assert "-> correct WORKER_TRIES, or unset it: the default is 3" in result.stdout
    assert "WORKER_SETTLE" in result.stdout
    assert "broker" not in result.stdout
    assert result.stdout.endswith("2 failed, 1 not checked\n")


def test_without_credentials_everything_else_is_checked() -> None:
    """Missing credentials are a failure of the configuration, and the broker is checked too."""
    result = _doctor("--json", "--project", "p", **_unreachable(WORKER_AUTH_TOKEN=""))

    found = _found(result)
    assert result.exit_code == 78
    assert found["configuration credentials"]["result"] == "failed"
    assert {name.split()[0] for name, check in found.items() if check["result"] == "failed"} >= {"broker", "DCS"}
    assert found["credentials"]["result"] == "not checked"


def test_misspelt_variable_is_a_warning() -> None:
    """The remedy has the nearest known name."""
    found = _found(_doctor("--json", **_unreachable(WORKER_PREFECH="3")))

    warning = found["configuration WORKER_PREFECH"]
    assert (warning["result"], warning["remedy"]) == ("warning", "rename it to WORKER_PREFETCH, or unset it")


def test_reconciliation_off_is_a_warning() -> None:
    """The remedy turns it on."""
    found = _found(_doctor("--json", **_unreachable(WORKER_RECONCILE="off")))

    assert (found["reconciliation"]["result"], found["reconciliation"]["remedy"]) == (
        "warning",
        "set WORKER_RECONCILE=always",
    )


@pytest.mark.parametrize(
    ("environment", "check", "said"),
    [
        ({}, "reconciliation", "always: look-up before every create, which costs one GET per create"),
        ({"WORKER_RECONCILE": "ambiguous"}, "reconciliation", "a request that is sent twice can be created twice"),
        ({"WORKER_CLAIMS_URL": ""}, "claims", "at two replicas, or before and after a restart, can make two tasks"),
        ({}, "claims", "while Redis is away: continues as without claims"),
        ({"WORKER_CLAIMS_AWAY": "pause"}, "claims", "while Redis is away: no create begins"),
    ],
)
def test_mode_and_its_cost_are_named(environment: dict[str, str], check: str, said: str) -> None:
    """Whether and when the worker looks for tasks, and which copies can still make two."""
    assert said in _found(_doctor("--json", **_unreachable(**environment)))[check]["found"]


@pytest.mark.parametrize("variable", ["WORKER_AMQP_CA_FILE", "WORKER_DCS_CA_FILE"])
def test_file_without_certificates_exits_with_78(variable: str, tmp_path: Path) -> None:
    """It is a finding, not a traceback."""
    (tmp_path / "file").write_text("nothing of that kind")
    url = f"amqps://someone:{PASSWORD}@127.0.0.1:{free_port()}/"
    result = _doctor(**_unreachable(WORKER_AMQP_URL=url, **{variable: str(tmp_path / "file")}))

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
def test_invalid_option_value_is_wrong_usage(options: tuple[str, str]) -> None:
    """The exit status is 2, and nothing is checked."""
    result = _doctor(*options, **_unreachable())

    assert (result.exit_code, result.stdout) == (2, "")
    assert options[0] in result.stderr


def test_unencrypted_management_url_is_rejected_for_an_encrypted_broker() -> None:
    """The management API gets the broker's password."""
    url = f"amqps://someone:{PASSWORD}@127.0.0.1:{free_port()}/"
    result = _doctor("--management", "http://127.0.0.1:15672", **_unreachable(WORKER_AMQP_URL=url))

    assert result.exit_code == 2
    assert "https://" in result.stderr


def _on_a_terminal(folder: Path, **environment: str) -> str:
    """The output of `doctor` with an invalid configuration on a terminal."""
    ours, theirs = pty.openpty()
    variables = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "TERM": "xterm", "WORKER_TRIES": "many", **environment}
    try:
        command = [sys.executable, "-m", "worker", "doctor"]
        subprocess.run(
            command, env=variables, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, timeout=60, check=False
        )
        return os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_colours_are_printed_on_terminals_without_no_color(tmp_path: Path) -> None:
    """There are none in a pipe."""
    assert "\x1b[31mFAILED" in _on_a_terminal(tmp_path)
    assert "\x1b" not in _on_a_terminal(tmp_path, NO_COLOR="1")
    assert "\x1b" not in _doctor(WORKER_TRIES="many").stdout

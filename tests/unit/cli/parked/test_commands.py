"""The `parked` commands without a broker: help, wrong usage, configuration."""

from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from schemas.event import PARKED_REASONS
from tests.unit.cli.parked.parked_messages import BODY
from worker.cli.app import app
from worker.cli.parked.selection import ParkedReason


@pytest.mark.parametrize("command", ["list", "show", "replay", "drop", "export"])
def test_help_ends_with_an_example(command: str) -> None:
    """The last line of every help text is an example of the command."""
    result = CliRunner().invoke(app, ["parked", command, "--help"])

    assert result.exit_code == 0
    assert result.output.rstrip().splitlines()[-1].startswith(f"  Example: dcs-worker parked {command}")


@pytest.mark.parametrize("command", ["replay", "drop"])
def test_replay_and_drop_need_a_selection(command: str) -> None:
    """Without ids, filter or --all it is wrong usage."""
    result = CliRunner().invoke(app, ["parked", command, "--yes"])

    assert result.exit_code == 2
    assert "choose requests" in result.stderr


@pytest.mark.parametrize("command", [["list"], ["replay"], ["drop", "--yes"], ["export"]])
def test_misspelt_reason_is_wrong_usage_with_the_list_of_reasons(command: list[str]) -> None:
    """It must not look as if nothing was parked."""
    result = CliRunner().invoke(app, ["parked", *command, "--reason", "exhasted"])

    assert result.exit_code == 2
    for reason in get_args(ParkedReason):
        assert f"'{reason}'" in result.stderr.replace("\n", " ")


def test_reasons_are_those_that_workers_park_with() -> None:
    """And two that are parked in some cases: no JSON object, and a code that is not in the error table."""
    reasons = {reason for reason in get_args(ParkedReason) if not reason.startswith("by the broker: ")}

    assert reasons == PARKED_REASONS | {"invalid_request", "rejected"}


def test_requests_and_result_do_not_share_standard_output() -> None:
    """--json and --to - are wrong usage together."""
    result = CliRunner().invoke(app, ["parked", "drop", "--all", "--to", "-", "--json"])

    assert (result.exit_code, "cannot be combined" in result.stderr) == (2, True)


def test_dry_run_needs_credentials_and_replay_does_not() -> None:
    """The dry run exits with 78 and names the variables; --yes gets as far as the broker."""
    environment = {"WORKER_AMQP_URL": "amqp://guest:guest@127.0.0.1:1/"}
    dry_run = CliRunner().invoke(app, ["parked", "replay", "--all"], env=environment)
    replay = CliRunner().invoke(app, ["parked", "replay", "--all", "--yes"], env=environment)

    assert (dry_run.exit_code, replay.exit_code) == (78, 69)
    assert "WORKER_AUTH_TOKEN" in dry_run.stderr


def test_invalid_certificate_file_exits_with_78(tmp_path: Path) -> None:
    """The message names the variable; there is no traceback."""
    (tmp_path / "ca.pem").write_text("nonsense")
    environment = {"WORKER_AMQP_URL": "amqps://127.0.0.1:1/", "WORKER_AMQP_CA_FILE": str(tmp_path / "ca.pem")}
    for arguments in (["parked", "list"], ["submit", "-"], ["topology", "check"]):
        done = CliRunner().invoke(app, arguments, env=environment, input=BODY)
        assert (done.exit_code, done.stdout) == (78, "")
        assert "WORKER_AMQP_CA_FILE" in done.stderr

"""`explain` without a broker: wrong usage, and services that cannot be reached."""

import json

import pytest
from typer.testing import CliRunner

from worker.cli.app import app


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["r-1", "--listen", "--project", "p"],
        ["r-1", "--region", "cn-north-4"],
        ["r-1", "--project", "../../admin"],
        ["r-1", "--project", "p", "--region", "nowhere-1"],
    ],
)
def test_options_that_do_not_fit_are_wrong_usage(arguments: list[str]) -> None:
    """Nothing is asked."""
    assert CliRunner().invoke(app, ["explain", *arguments], input="").exit_code == 2


def test_unreachable_services_are_no_proof_of_absence() -> None:
    """With --project every source is tried, each says why it was not asked, and the exit status is 69."""
    environment = {
        "WORKER_AMQP_URL": "amqp://guest:hunter2@127.0.0.1:1/",
        "WORKER_CLAIMS_URL": "redis://:hunter2@127.0.0.1:1/0",
        "WORKER_DCS_ENDPOINTS": '{"cn-north-4": "http://127.0.0.1:1"}',
        "WORKER_AUTH_TOKEN": "t",
    }
    plain = CliRunner().invoke(app, ["explain", "r-1", "--project", "p"], env=environment)
    machine = CliRunner().invoke(app, ["explain", "r-1", "--project", "p", "--json"], env=environment)

    assert (plain.exit_code, machine.exit_code) == (69, 69)
    assert "state         not known" in plain.stdout
    assert "failed     parked queue " in plain.stdout
    (timeline,) = json.loads(machine.stdout)
    assert (timeline["request_id"], timeline["project_id"], timeline["timeline"]) == ("r-1", "p", [])
    assert [source["state"] for source in timeline["sources"]] == ["failed", "failed", "failed", "not asked"]
    assert "hunter2" not in plain.output + machine.output


@pytest.mark.parametrize("arguments", [["r-1"], ["r-1", "--listen"]])
def test_unreachable_broker_exits_with_69(arguments: list[str]) -> None:
    """It is named, without the password; and, unless an event is awaited, what would be asked with --project."""
    url = "amqp://guest:hunter2@127.0.0.1:1/"
    done = CliRunner().invoke(app, ["explain", *arguments], env={"WORKER_AMQP_URL": url})
    assert done.exit_code == 69
    assert "Broker 127.0.0.1:1: it cannot be reached: Connection refused" in done.output
    assert "hunter2" not in done.output
    assert done.stdout.count("needs --project") == (0 if "--listen" in arguments else 2)

"""`topology`: what is printed, and what is said when no broker is there."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker.cli.app import app
from worker.tools.nodes import free_port


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads a `.env` that lies about."""
    monkeypatch.chdir(tmp_path)


def test_the_table_names_everything() -> None:
    """Printing is the default; every exchange, queue and binding of the settings has a line."""
    result = CliRunner().invoke(app, ["topology"], env={"WORKER_QUEUE": "moves", "WORKER_RETRY_DELAYS": "5,90"})

    assert result.exit_code == 0
    lines = [line.split(maxsplit=2) for line in result.output.splitlines()]
    assert [(kind, name) for kind, name, _ in lines] == [
        ("exchange", "dcs.migration"),
        ("exchange", "dcs.migration.events"),
        ("binding", "dcs.migration"),
        ("queue", "moves.parked"),
        ("queue", "moves"),
        ("queue", "moves.retry.1"),
        ("queue", "moves.retry.2"),
    ]
    assert lines[-1][2] == "quorum, after 90 s, to moves"


def test_the_json_has_every_argument() -> None:
    """For programs the queues come with the arguments that they are declared with."""
    result = CliRunner().invoke(app, ["topology", "print", "--json"], env={"WORKER_RETRY_DELAYS": "60"})

    plan = json.loads(result.output)
    assert plan["exchanges"][0] == {"name": "dcs.migration", "type": "direct", "durable": True}
    assert plan["bindings"] == [
        {"exchange": "dcs.migration", "queue": "dcs.migration.requests", "routing_key": "create"}
    ]
    retry = plan["queues"][-1]
    assert retry["name"] == "dcs.migration.requests.retry.1"
    assert (retry["arguments"]["x-queue-type"], retry["arguments"]["x-message-ttl"]) == ("quorum", 60_000)


def test_a_broker_that_is_not_there_is_one_sentence() -> None:
    """Applying without a broker ends with 69 and says which one was tried, without its password."""
    port = free_port()
    url = f"amqp://someone:hunter2@127.0.0.1:{port}/"
    result = CliRunner().invoke(app, ["topology", "apply"], env={"WORKER_AMQP_URL": url})

    assert (result.exit_code, result.stdout) == (69, "")
    sentence, remedy = f"The broker at 127.0.0.1:{port} cannot be reached: Connection refused.", "WORKER_AMQP_URL"
    assert result.stderr.startswith(f"{sentence} {remedy}")
    assert result.stderr.count("\n") == 1

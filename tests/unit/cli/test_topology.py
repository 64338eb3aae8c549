"""`topology`: output without a broker, and the error if none can be reached."""

import json

from typer.testing import CliRunner

from worker.cli.app import app
from worker.tools.servers import free_port


def test_table_has_every_exchange_queue_and_binding() -> None:
    """Printing is the default action."""
    result = CliRunner().invoke(app, ["topology"], env={"WORKER_QUEUE": "moves", "WORKER_RETRY_DELAYS": "5,90"})

    assert result.exit_code == 0
    lines = [line.split(maxsplit=2) for line in result.output.splitlines()]
    assert [(kind, name) for kind, name, _ in lines] == [
        ("exchange", "dcs.migration"),
        ("exchange", "dcs.migration.events"),
        ("binding", "dcs.migration"),
        ("queue", "moves.parked"),
        ("queue", "moves"),
        ("queue", "moves.retry.5s"),
        ("queue", "moves.retry.90s"),
    ]
    assert lines[-1][2] == "quorum, TTL 90 s, dead-letters to moves"


def test_json_has_every_queue_argument() -> None:
    """The queues have the arguments with which they are declared."""
    result = CliRunner().invoke(app, ["topology", "print", "--json"], env={"WORKER_RETRY_DELAYS": "60"})

    plan = json.loads(result.output)
    assert plan["exchanges"][0] == {"name": "dcs.migration", "type": "direct", "durable": True}
    assert plan["bindings"] == [
        {"exchange": "dcs.migration", "queue": "dcs.migration.requests", "routing_key": "create"}
    ]
    retry = plan["queues"][-1]
    assert retry["name"] == "dcs.migration.requests.retry.60s"
    assert (retry["arguments"]["x-queue-type"], retry["arguments"]["x-message-ttl"]) == ("quorum", 60_000)


def test_unreachable_broker_is_one_sentence_and_69() -> None:
    """It names the address without the password."""
    port = free_port()
    url = f"amqp://someone:hunter2@127.0.0.1:{port}/"
    result = CliRunner().invoke(app, ["topology", "apply"], env={"WORKER_AMQP_URL": url})

    assert (result.exit_code, result.stdout) == (69, "")
    sentence, remedy = f"Broker 127.0.0.1:{port}: it cannot be reached: Connection refused.", "WORKER_AMQP_URL"
    assert result.stderr.startswith(f"{sentence} {remedy}")
    assert result.stderr.count("\n") == 1

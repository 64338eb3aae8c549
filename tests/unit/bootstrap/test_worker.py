"""Health of a built worker whose connections come up one after the other."""

from dataclasses import dataclass
from typing import cast

from worker import __version__
from worker.bootstrap.build import build
from worker.config.load import load
from worker.observe.logging import configure_logging
from worker.observe.metrics import Metrics
from worker.observe.observer import WorkerObserver
from worker.policy.health import HealthStatus
from worker.rabbit.consumer import Consumer

ENVIRON = {
    "WORKER_AMQP_URL": "amqp://guest:guest@127.0.0.1:1/",
    "WORKER_AUTH_TOKEN": "a-token-of-a-test",
    "WORKER_HTTP_HOST": "127.0.0.1",
    "WORKER_HTTP_PORT": "0",
}


@dataclass
class ConsumerState:
    """What health asks of a consumer."""

    is_consuming: bool = True
    is_answering: bool = True
    pauses: frozenset[str] = frozenset()


async def test_worker_starts_until_all_connections_have_been_up() -> None:
    """One connection works a moment before the other: that is no loss, and no line of level warning."""
    loaded = load(ENVIRON)
    metrics = Metrics(__version__, tuple(loaded.settings.dcs_endpoints), False)
    observer = WorkerObserver(metrics, configure_logging("critical", "json", None))
    async with build(loaded, observer, metrics) as worker:
        worker.consumer = cast(Consumer, ConsumerState())
        first, *others = worker.supervisors
        first.state = "up"
        health = worker.check_health()
        assert health.status is HealthStatus.STARTING
        assert "No connection to RabbitMQ: connecting." in health.reason

        for supervisor in others:
            supervisor.state = "up"
        assert worker.check_health().status is HealthStatus.OK
        first.state = "127.0.0.1:1: connection refused"
        assert worker.check_health().status is HealthStatus.DISCONNECTED

"""Health of a built worker before its connections are up: it starts, whatever has been paused by then."""

from worker import __version__
from worker.bootstrap.build import build
from worker.config.load import load
from worker.observe.logging import configure_logging
from worker.observe.metrics import Metrics
from worker.observe.observer import WorkerObserver
from worker.pipeline.ports import CLAIMS_AWAY
from worker.policy.health import HealthStatus

ENVIRON = {
    "WORKER_AMQP_URL": "amqp://guest:guest@127.0.0.1:1/",
    "WORKER_AUTH_TOKEN": "a-token-of-a-test",
    "WORKER_HTTP_PORT": "0",
    "WORKER_HTTP_HOST": "127.0.0.1",
}


async def test_a_worker_starts_until_all_its_connections_have_been_up() -> None:
    """One connection is up a moment before the other: that is no loss, and no line of level warning."""
    loaded = load(ENVIRON)
    metrics = Metrics(__version__, tuple(loaded.settings.dcs_endpoints), False)
    observer = WorkerObserver(metrics, configure_logging("critical", "json", None))
    async with build(loaded, observer, metrics) as worker:
        consumer, *others = worker.supervisors
        worker.consumer.pause(CLAIMS_AWAY)
        consumer.state = "up"
        health = worker.check_health()
        assert health.status is HealthStatus.STARTING
        assert "No connection to RabbitMQ: connecting." in health.reason

        for supervisor in others:
            supervisor.state = "up"
        assert worker.check_health().status is HealthStatus.PAUSED
        consumer.state = "127.0.0.1:1: connection refused"
        assert worker.check_health().status is HealthStatus.DISCONNECTED

"""What of the compose file can run here, runs as it is written there: as processes, and Prometheus over them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from tests.deploy.compose_file import FILE, LOADED, ROOT, SERVICES, WORKERS, Placed, beside
from tests.fakes.servers import RabbitMqServer
from tools.harness.running_system import until
from worker.tools.servers import ChildProcesses, free_port, replies_with

pytestmark = [pytest.mark.image, pytest.mark.timeout(300)]

DOCKER_COMPOSE = ROOT / ".venv" / "compose" / "usr" / "bin" / "docker-compose"
COMMANDS = Path(sys.executable).parent  # where dcs-worker is


class Composition:
    """The compose file's services on loopback, each at a port of its own."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        lines = beside("./compose/secrets/rabbitmq_user.conf").read_text().splitlines()
        plugins = beside("./compose/enabled_plugins").read_text().strip("[]. \n").split(",")
        self.rabbit = stack.enter_context(RabbitMqServer(config=lines, plugins=plugins))
        self._lifeline = ChildProcesses()
        stack.callback(self._lifeline.close)
        redis, self.prometheus, fake_dcs = (f"127.0.0.1:{free_port()}" for _ in range(3))
        self.workers = {name: free_port() for name in WORKERS}
        workers = {
            f"{name}:{SERVICES[name]['environment']['WORKER_HTTP_PORT']}": f"127.0.0.1:{port}"
            for name, port in self.workers.items()
        }
        self._placed = Placed(
            {
                "rabbitmq:5672": f"127.0.0.1:{self.rabbit.port}",
                "rabbitmq:15692": f"127.0.0.1:{self.rabbit.plugin_ports['rabbitmq_prometheus']}",
                "redis:6379": redis,
                "127.0.0.1:8090": fake_dcs,
                "--port=8090": f"--port={fake_dcs.rpartition(':')[2]}",
                "--host=0.0.0.0": "--host=127.0.0.1",
                **workers,
            },
            folder,
        )
        self.redis_port = int(redis.rpartition(":")[2])
        self.fake_dcs = f"http://{fake_dcs}"

    def start(self) -> "Composition":
        """Start everything, in the order of depends_on."""
        store = ["--port", str(self.redis_port), "--bind", "127.0.0.1", "--dir", str(self._lifeline.folder)]
        _, *options = self._placed.command("redis")
        self._spawn(["redis-server", *options, *store], {})  # Valkey takes the same options
        self._ours("fake-dcs")
        self.processes = {
            name: self._ours(name, WORKER_HTTP_PORT=str(port), WORKER_HTTP_HOST="127.0.0.1")
            for name, port in self.workers.items()
        }
        script = str(beside("./compose/sender.sh"))
        self._spawn(["sh", script], self._placed.environment("sender"))
        data = ["--storage.tsdb.path", str(self._lifeline.folder / "tsdb"), "--web.listen-address", self.prometheus]
        self._spawn(["prometheus", "--config.file", str(self._placed.prometheus), *data], {})
        return self

    def is_healthy(self, name: str) -> bool:
        """What the service's health check says, run as the image would."""
        check = SERVICES[name].get("healthcheck", {}).get("test") or ["CMD", "python", "-m", "worker.tools.healthcheck"]
        command = [sys.executable, *(self._placed.text(word) for word in check[2:])]
        environment = {"WORKER_HTTP_PORT": str(self.workers.get(name, ""))}
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=False).returncode == 0

    def ask(self, path: str, **query: str) -> Any:
        """What Prometheus answers; empty while it does not."""
        try:
            with urlopen(f"http://{self.prometheus}/api/v1/{path}?{urlencode(query)}", timeout=5) as answer:
                return json.load(answer)["data"]
        except OSError:
            return {}

    def value(self, query: str) -> float:
        """The value of a query that has one series; 0 while there is none."""
        result = self.ask("query", query=query).get("result", [])
        return float(result[0]["value"][1]) if result else 0.0

    def explain(self) -> str:
        """What the processes said at last."""
        return (self._lifeline.folder / "output").read_text(errors="replace")[-3000:]

    def _ours(self, name: str, **changed: str) -> subprocess.Popen[bytes]:
        return self._spawn(["dcs-worker", *self._placed.command(name)], self._placed.environment(name) | changed)

    def _spawn(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        path = f"{COMMANDS}:{os.defpath}:/usr/sbin"
        program = shutil.which(command[0], path=path)
        assert program, f"{command[0]} is not installed: run make test-deploy"
        return self._lifeline.spawn([program, *command[1:]], {"PATH": path} | environment)


@pytest.fixture(scope="module")
def composition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """Everything but Grafana, running."""
    with ExitStack() as stack:
        yield Composition(tmp_path_factory.mktemp("compose"), stack).start()


async def test_services_become_healthy(composition: Composition) -> None:
    """The health checks of fake DCS and workers pass once they are up."""
    for name in ("fake-dcs", *WORKERS):
        await until(partial(composition.is_healthy, name), 60, composition.explain)


async def test_both_workers_work_and_are_scraped(composition: Composition) -> None:
    """Prometheus reaches every target of its configuration, and sees both workers complete what is sent."""
    targets = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    count = sum(len(job["static_configs"][0]["targets"]) for job in targets)
    await until(lambda: composition.value("sum(up)") == count, 60, composition.explain)
    done = 'count(sum by (instance) (dcs_worker_deliveries_settled_total{outcome="succeeded"}) > 0)'
    await until(lambda: composition.value(done) == len(WORKERS), 90, composition.explain)
    assert composition.value("count(dcs_worker_build_info)") == len(WORKERS)
    assert composition.value("min(dcs_worker_claims_available)") == 1
    consumers = 'sum(rabbitmq_detailed_queue_consumers{queue="dcs.migration.requests"})'
    await until(lambda: composition.value(consumers) == len(WORKERS), 60)  # the broker counts every few seconds
    assert composition.value('count(rabbitmq_detailed_queue_messages{queue="dcs.migration.requests"})') == 1


async def test_rules_are_loaded_and_evaluated(composition: Composition) -> None:
    """Prometheus has every file of rules, and evaluates those that are due within seconds without an error."""
    files = {str(path) for path in (ROOT / "deploy" / "prometheus" / "rules").glob("*.yml")}
    assert files
    await until(lambda: {group["file"] for group in composition.ask("rules").get("groups", [])} == files, 30)

    def healths() -> set[str]:
        due = [group for group in composition.ask("rules")["groups"] if group["interval"] <= 5]
        return {rule["health"] for group in due for rule in group["rules"]}

    await until(lambda: healths() == {"ok"}, 60, healths)


async def test_redis_refuses_rather_than_evicts(composition: Composition) -> None:
    """The store of claims runs with the policy of the compose file."""
    assert replies_with(
        composition.redis_port,
        b"CONFIG GET maxmemory-policy\r\n",
        b"*2\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction",
    )


async def test_workers_drain(composition: Composition) -> None:
    """SIGTERM ends each with 0, within the grace that the file gives."""
    grace = float(SERVICES[WORKERS[0]]["stop_grace_period"].removesuffix("s"))
    for process in composition.processes.values():
        process.send_signal(signal.SIGTERM)
    ended = [process.poll for process in composition.processes.values()]
    await until(lambda: None not in [poll() for poll in ended], grace, composition.explain)
    assert [poll() for poll in ended] == [0] * len(WORKERS)


def test_docker_compose_reads_it() -> None:
    """Docker Compose itself resolves the file, and sees what is meant: services, waits, secrets."""
    assert DOCKER_COMPOSE.exists(), "Docker Compose is not there yet: run make test-deploy"
    done = subprocess.run(
        [DOCKER_COMPOSE, "--file", FILE, "config", "--format", "json"],
        env={"PATH": os.defpath, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    resolved = json.loads(done.stdout)
    assert set(resolved["services"]) == set(SERVICES)
    worker = resolved["services"]["worker-1"]
    assert worker["depends_on"].keys() == {"rabbitmq", "redis", "fake-dcs"}
    assert {secret["source"] for secret in worker["secrets"]} == {"worker_amqp_url", "worker_auth_token"}
    assert worker["environment"]["WORKER_HTTP_PORT"] == "8001"
    assert resolved["volumes"].keys() == LOADED["volumes"].keys()

"""Who takes part, how each is started, and where its requests and events are."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tools.bench import load
from worker.tools.servers import LOOPBACK, free_port

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".venv" / "bench"
GO_SOURCE = Path(__file__).parent / "peers" / "bare_go"
DEBIAN_GO = "/usr/share/gocode"
MODULE = "tools.bench.peers"
CELERY = f"-Q {load.REQUESTS} --loglevel warning --without-gossip --without-mingle --without-heartbeat"
WORKER = (sys.executable, "-m", "worker", "run")


@dataclass(frozen=True)
class Competitor:
    """One program under measurement.

    - `command`: what starts it, `environment`: what it is told besides where broker and service are.
    - `sender`: module whose client publishes its requests; None: it takes them as they come to this worker.
    - `is_slow`: it has so low a rate that a third of the requests keeps it busy as long.
    - `is_quorum_by_default`: its library cannot ask for a quorum queue, so its virtual host makes none other.
    """

    name: str
    title: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    sender: str | None = None
    is_slow: bool = False
    is_quorum_by_default: bool = False

    @property
    def is_worker(self) -> bool:
        """Whether it is this project's worker."""
        return self.command == WORKER


@dataclass(frozen=True)
class Places:
    """Where a competitor finds what it works with."""

    amqp_url: str
    service_url: str

    def environment(self, competitor: Competitor) -> dict[str, str]:
        """Everything that the competitor is told; nothing comes from our own environment."""
        found = {"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
        if competitor.is_worker:
            return {**found, **self._of_the_worker(), **competitor.environment}
        found |= {"BENCH_AMQP_URL": self.amqp_url, "BENCH_SERVICE_URL": self.service_url}
        return {**found, **competitor.environment}

    def _of_the_worker(self) -> dict[str, str]:
        return {
            "WORKER_AMQP_URL": self.amqp_url,
            "WORKER_DCS_ENDPOINTS": json.dumps({"cn-north-4": self.service_url}),
            "WORKER_AUTH_TOKEN": load.HEADERS["X-Auth-Token"],
            "WORKER_RECONCILE": "ambiguous",  # one create per request is compared
            "WORKER_HTTP_HOST": LOOPBACK,
            "WORKER_HTTP_PORT": str(free_port()),
            "WORKER_LOG_LEVEL": "warning",
            "WORKER_LOG_FORMAT": "json",
        }


def worker(name: str, title: str, **environment: str) -> Competitor:
    """This worker as shipped, with these settings."""
    return Competitor(name, title, WORKER, environment)


def ours(redis_url: str) -> list[Competitor]:
    """This worker: with the least log, with the usual log to a file, with claims, and with its default look-up."""
    return [
        worker("worker", "this worker"),
        worker("worker-logged", "this worker, info log to a file", WORKER_LOG_LEVEL="info"),
        worker("worker-claims", "this worker, claims in Redis", WORKER_CLAIMS_URL=redis_url),
        worker("worker-always", "this worker, a lookup before each create (default)", WORKER_RECONCILE="always"),
    ]


def peers(go_loop: Path | None) -> list[Competitor]:
    """The others; without the Go loop if it could not be built."""
    found = [Competitor("bare-python", "bare loop, aio-pika + aiohttp", _peer("python -m", "bare"))]
    if go_loop is not None:
        found.append(Competitor("bare-go", "bare loop in Go", (str(go_loop),)))
    at_once = str(load.IN_FLIGHT)
    return [
        *found,
        Competitor("faststream", "FastStream + httpx", _peer("faststream run", "faststream_app:app"), is_slow=True),
        Competitor(
            "taskiq",
            "Taskiq + httpx",
            _peer("taskiq worker", "taskiq_app:broker", f"--workers 1 --max-async-tasks {at_once} --log-level WARNING"),
            sender="taskiq_app",
            is_slow=True,
        ),
        Competitor(
            "dramatiq",
            "Dramatiq + requests",
            _peer("dramatiq", "dramatiq_app", f"--processes 1 --threads {at_once} --queues {load.REQUESTS}"),
            {"dramatiq_queue_prefetch": at_once},
            sender="dramatiq_app",
            is_slow=True,
            is_quorum_by_default=True,
        ),
        Competitor(
            "celery",
            "Celery + requests",
            _peer("celery -A", "celery_app", f"worker --pool threads --concurrency {at_once} {CELERY}"),
            sender="celery_app",
            is_slow=True,
        ),
    ]


def sending(competitor: Competitor, places: Places, count: int, rate: float) -> subprocess.Popen[bytes]:
    """Start the competitor's own sender: `count` requests, `rate` in a second (0: at once)."""
    assert competitor.sender is not None
    return subprocess.Popen(
        [*_peer("python -m", competitor.sender), str(count), str(rate)],
        env=places.environment(competitor),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def built_go_loop() -> tuple[Path | None, str]:
    """The bare Go loop, compiled; or None, and why there is none."""
    go = shutil.which("go")
    if go is None:
        return None, "there is no Go compiler"
    target = PEERS / "bare-go"
    gopath = os.pathsep.join(filter(None, (os.environ.get("GOPATH"), DEBIAN_GO)))
    ways: list[dict[str, str]] = [{}, {"GO111MODULE": "off", "GOPATH": gopath}]  # the module, else Debian's package
    for way in ways:
        command = [go, "build", "-o", str(target), "."]
        done = subprocess.run(command, cwd=GO_SOURCE, env={**os.environ, **way}, capture_output=True, check=False)
        if not done.returncode:
            return target, ""
    return None, "amqp091-go is not to be had, neither as a module nor as golang-github-rabbitmq-amqp091-go-dev"


def _peer(program: str, module: str, arguments: str = "") -> tuple[str, ...]:
    """The command line of a program in the peers' environment, about one of their modules here."""
    name, *options = program.split()
    return (str(PEERS / "bin" / name), *options, f"{MODULE}.{module}", *arguments.split())

"""`doctor` as a process, and what a client could have changed on a broker."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas import names
from tests.live.stage import free_port
from worker.tools.servers import RabbitMqServer

ROOT = Path(__file__).parents[2]
QUEUE = names.REQUEST_QUEUE
PASSWORD = "the-secret-of-this-test"


@dataclass
class Answer:
    """What the command said, its findings by name and subject."""

    status: int
    found: dict[str, dict[str, Any]]
    output: str

    def failed(self) -> set[str]:
        """What failed."""
        return {name for name, one in self.found.items() if one["result"] == "failed"}


def _run(arguments: tuple[str, ...], url: str, folder: Path, told: dict[str, str]) -> subprocess.CompletedProcess[str]:
    given = {
        "PYTHONPATH": str(ROOT),
        "WORKER_AMQP_URL": url,
        "WORKER_AUTH_TOKEN": "stand-in-token",
        "WORKER_DCS_ENDPOINTS": json.dumps({"cn-north-4": f"http://127.0.0.1:{free_port()}"}),
        "WORKER_HTTP_PORT": "0",
    }
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        env={**os.environ, **given, **told},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def apply(url: str, folder: Path, **told: str) -> None:
    """Declare what a worker needs."""
    done = _run(("topology", "apply"), url, folder, told)
    assert done.returncode == 0, done.stderr


def doctor(url: str, folder: Path, *options: str, **told: str) -> Answer:
    """Run it; every failure and warning must come with a remedy."""
    done = _run(("doctor", "--json", *options), url, folder, told)
    assert done.stderr == ""
    answer = json.loads(done.stdout)
    assert answer["status"] == done.returncode
    found = {f"{one['check']} {one['subject'] or ''}".strip(): one for one in answer["checks"]}
    assert all(one["remedy"] for one in found.values() if one["result"] in ("failed", "warning"))
    return Answer(done.returncode, found, done.stdout)


def state(node: RabbitMqServer) -> str:
    """Every user, right, queue, exchange, binding and policy of the node."""
    definitions = json.loads(node.run_ctl("export_definitions", "-", "--format=json"))
    parts = ("vhosts", "users", "permissions", "queues", "exchanges", "bindings", "policies", "parameters")
    shares = {part: sorted(definitions.get(part, []), key=json.dumps) for part in parts}
    return json.dumps(shares, sort_keys=True)


def vhost_of(url: str) -> str:
    """The vhost of a URL."""
    return url.rpartition("/")[2]

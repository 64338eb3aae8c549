"""What the competitors work with: an HTTP endpoint that is fast or slow, and a Redis that is not new."""

import http.client
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import redis

from tests.fakes.servers import RedisServer
from tools.bench import load
from worker.claims import scripts
from worker.tools.servers import (
    LOOPBACK,
    ChildProcesses,
    PrivateServer,
    ServerUnavailableError,
    replies_with,
)

BODIES = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
AN_HOUR = 3600.0

# One process, so that ending it ends all of it. Waiting connections are cheap: one per call in flight at most.
# Each answer has ids of its own, as the service's have: the worker believes none twice.
CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 3600s; client_max_body_size 1m; {temporary}
  server {{
    listen {address}; default_type application/json; add_header X-Request-Id $request_id;
    location ~ /migration-tasks$ {{ return 200 '{{"count":0,"migration_tasks":[]}}'; }}  # a redelivery is looked up
    location / {{ return 200 '{{"instance_id":"$request_id","job_id":"2c9a80c5-1b3f-4d55-9a2c-0f7f2c6d5a11"}}'; }}
  }}
}}
"""


class Nginx(PrivateServer):
    """The system's nginx, answering every call at once as the service does when it has created a task."""

    kind: ClassVar[str] = "nginx"
    start_timeout_seconds: ClassVar[float] = 10.0

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://{LOOPBACK}:{self.port}"

    def is_answering(self) -> bool:
        """Whether it answers a call."""
        return replies_with(self.port, b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.1 200")

    def _launch(self, children: ChildProcesses) -> subprocess.Popen[bytes]:
        program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if program is None:
            raise ServerUnavailableError("nginx is not installed: install the package nginx-light or nginx.")
        folder = children.folder
        temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in BODIES)
        address = f"{LOOPBACK}:{self.port} backlog=4096"
        config = folder / "nginx.conf"
        config.write_text(CONFIG.format(folder=folder, temporary=temporary, address=address))
        return children.spawn([program, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")], {})


class SlowService(PrivateServer):
    """An endpoint that answers each call after `latency` seconds, any number of them at once."""

    kind: ClassVar[str] = "the slow endpoint"
    start_timeout_seconds: ClassVar[float] = 10.0

    def __init__(self, latency: float) -> None:
        super().__init__()
        self._latency = latency

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://{LOOPBACK}:{self.port}"

    def is_answering(self) -> bool:
        """Whether it answers a call."""
        return replies_with(self.port, b"GET / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 200")

    def _launch(self, children: ChildProcesses) -> subprocess.Popen[bytes]:
        program = Path(__file__).with_name("endpoint.py")
        command = [sys.executable, str(program), LOOPBACK, str(self.port), str(self._latency)]
        return children.spawn(command, {})


def make_old(node: RedisServer) -> None:
    """Let Redis say that it has forgotten nothing for an hour: a new one is doubted, and everything looked for."""
    with redis.Redis.from_url(node.url) as client:
        client.set(scripts.MEMORY_KEY, f"{time.time() - AN_HOUR:.6f}")


def service_seconds(url: str, calls: int = 300) -> float:
    """Median time of a call to the endpoint itself, over one kept connection."""
    host = url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    taken = []
    for _ in range(calls):
        started = time.perf_counter()
        connection.request("POST", f"/v2/{load.PROJECT}/migration/instance", b"{}", load.HEADERS)
        connection.getresponse().read()
        taken.append(time.perf_counter() - started)
    connection.close()
    return sorted(taken)[calls // 2]

"""The health probe: one page asked without any library, its exit status and its one line."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from worker.tools import healthcheck
from worker.tools.fake_dcs import FakeDcs
from worker.tools.servers import free_port


@contextmanager
def silent() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_200_is_healthy() -> None:
    """200 is healthy, any other status is reported."""
    async with FakeDcs() as fake_dcs:
        assert await asyncio.to_thread(healthcheck.ask, f"{fake_dcs.url}/_stats") == ""
        assert await asyncio.to_thread(healthcheck.ask, f"{fake_dcs.url}/nothing") == "answered 404"


def test_silent_server_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stuck server fails the check before the check's own timeout."""
    monkeypatch.setattr(healthcheck, "TIMEOUT_SECONDS", 0.05)
    with silent() as port, pytest.raises(TimeoutError):
        healthcheck.ask(f"http://127.0.0.1:{port}/livez")


@pytest.mark.parametrize("url", ["http://127.0.0.1/livez", "nonsense", "http://127.0.0.1:port/"])
def test_invalid_url_is_a_failure(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An invalid URL ends with 1 and one line, not with a traceback."""
    monkeypatch.setattr(sys, "argv", ["healthcheck", url])
    assert healthcheck.main() == 1
    assert capsys.readouterr().err.startswith(f"{url}: ")


@pytest.mark.parametrize(
    ("host", "asked"),
    [(None, "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("127.0.0.2", "127.0.0.2")],
)
def test_default_url_follows_settings(
    host: str | None, asked: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Address and port are the worker's settings; a worker that listens on all addresses is asked on loopback."""
    port = free_port()
    monkeypatch.setenv("WORKER_HTTP_PORT", str(port))
    if host:
        monkeypatch.setenv("WORKER_HTTP_HOST", host)
    monkeypatch.setattr(sys, "argv", ["healthcheck"])
    assert healthcheck.main() == 1  # nobody listens
    assert capsys.readouterr().err.startswith(f"http://{asked}:{port}/livez: ")


def test_process_loads_no_http_library(serving: Callable[[bytes], int]) -> None:
    """Status 0 and no output; no HTTP library and nothing else of the worker is loaded."""
    port = serving(b"HTTP/1.0 200 OK\r\n\r\n")
    code = (
        "import sys; from worker.tools.healthcheck import main; status = main(); print(*sys.modules); sys.exit(status)"
    )
    environment = {"WORKER_HTTP_PORT": str(port)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    loaded = set(done.stdout.split())
    assert not loaded & {"http", "urllib.request", "asyncio", "ssl", "email", "aiohttp", "pydantic"}


@pytest.fixture
def serving() -> Iterator[Callable[[bytes], int]]:
    """A server that gives one answer, in a process of its own; its port."""
    processes: list[subprocess.Popen[bytes]] = []

    def serve(answer: bytes) -> int:
        code = (
            "import socket\n"
            "with socket.create_server(('127.0.0.1', 0)) as server:\n"
            "    print(server.getsockname()[1], flush=True)\n"
            "    wire, _ = server.accept()\n"
            f"    wire.recv(1000); wire.sendall({answer!r}); wire.close()\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        processes.append(process)
        assert process.stdout
        return int(process.stdout.readline())

    yield serve
    for process in processes:
        process.kill()
        process.communicate()

"""The commands of README.md and docs/walkthrough.md, in order, as printed, in a fresh checkout."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.fakes.servers import RedisServer
from tools.harness.running_system import free_port
from worker.tools.fake_dcs import Auth, FakeDcs, FakeDcsSettings

ROOT = Path(__file__).parents[2]
DEMO_REQUESTS = 200
BATCH_REQUESTS = 100
STEP_SECONDS = 150
KEYS = Auth(mode="aksk")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with everything that is committed, and the installed `.venv`; files written there stay there."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in {line.split("/")[0] for line in listed.splitlines()}:
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def environment(**variables: str) -> dict[str, str]:
    """That of a newcomer: nothing of the worker and nothing of the make that runs the tests."""
    inherited = {name: value for name, value in os.environ.items() if not re.match(r"WORKER_|MAKE|MFLAGS|ARGS$", name)}
    return inherited | {"PYTHONUNBUFFERED": "1"} | variables


def blocks(page: str, language: str = "sh") -> list[str]:
    """The blocks of a page in one language, in order."""
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    return found


def run(command: str, folder: Path) -> str:
    """Run one printed line; its output."""
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=STEP_SECONDS,
        check=False,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout + done.stderr


@contextmanager
def running(command: str, folder: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a printed line that ends only when it is stopped; killed at the end if it still runs."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            ["sh", "-c", f"exec {command}"], cwd=folder, env=environment(), stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def wait_for(words: str, log: Path, process: subprocess.Popen[bytes]) -> str:
    """Wait until the output has these words; all of the output."""
    end = time.monotonic() + STEP_SECONDS
    while words not in (text := log.read_text()):
        assert process.poll() is None, text
        assert time.monotonic() < end, text
        time.sleep(0.1)
    return text


def get(url: str) -> str:
    """The body of a page; empty while it does not answer with 200."""
    try:
        with urlopen(url, timeout=5) as reply:
            return str(reply.read().decode())
    except (URLError, ConnectionError):
        return ""


def stop(process: subprocess.Popen[bytes], number: signal.Signals) -> int:
    """Send a signal and wait for the end; the exit status."""
    process.send_signal(number)
    return process.wait(timeout=STEP_SECONDS)


@pytest.mark.timeout(300)
async def test_readme_commands_run_as_printed(
    checkout: Path, vhost: str, redis_node: RedisServer, tmp_path: Path
) -> None:
    """The two commands (`make test` is what runs here), then a worker with the printed settings and other values."""
    commands, real = (block.splitlines() for block in blocks("README.md"))
    demo, test = commands
    assert re.match(r"make test\s", test)
    assert "192 tasks exist for the 192 requests" in await asyncio.to_thread(run, demo, checkout)

    async with FakeDcs(FakeDcsSettings(auth=KEYS)) as fake_dcs:
        port = free_port()
        values = {
            "WORKER_AMQP_URL": vhost,
            "WORKER_DCS_REGION": "cn-north-4",
            "WORKER_ACCESS_KEY": KEYS.access_key,
            "WORKER_SECRET_KEY": KEYS.secret_key.get_secret_value(),
            "WORKER_CLAIMS_URL": redis_node.url,
        }
        (printed,) = blocks("README.md", "ini")
        assert list(values) == re.findall(r"^(\w+)=", printed, re.MULTILINE)
        values |= {
            "WORKER_DCS_ENDPOINTS": json.dumps({"cn-north-4": fake_dcs.url}),
            "WORKER_HTTP_HOST": "127.0.0.1",
            "WORKER_HTTP_PORT": str(port),
        }
        (checkout / ".env").write_text("".join(f"{name}='{value}'\n" for name, value in values.items()))
        *steps, last = real
        assert "dcs-worker run " in last
        for step in steps:
            await asyncio.to_thread(run, step, checkout)
        log = tmp_path / "worker.log"
        with running(last, checkout, log) as worker:
            async with asyncio.timeout(60):
                while "status" not in await asyncio.to_thread(get, f"http://127.0.0.1:{port}/readyz"):
                    assert worker.poll() is None, log.read_text()
                    await asyncio.sleep(0.1)
            status = await asyncio.to_thread(stop, worker, signal.SIGTERM)
        assert status == 0, log.read_text()


@pytest.mark.timeout(300)
def test_walkthrough_commands_run_as_printed(checkout: Path, tmp_path: Path) -> None:
    """Break, submit, look, repair, replay, and one task per request, with what the demo itself has left in between."""
    (start,), script = (block for block in blocks("docs/walkthrough.md")[:1]), blocks("docs/walkthrough.md")[1]
    log = tmp_path / "demo.log"
    with running(start.strip(), checkout, log) as demo:
        printed = wait_for("  export FAKE_DCS=", log, demo)
        exports = "".join(f"{line.strip()}\n" for line in printed.splitlines() if line.startswith("  export "))
        done = subprocess.run(
            ["sh", "-x"],
            input=exports + script,
            env=environment(),
            cwd=checkout,
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS,
            check=False,
        )
        (fake_dcs,) = re.findall(r"export FAKE_DCS=(\S+)", exports)
        tasks = json.loads(get(f"{fake_dcs}/_tasks?limit=0"))
        status = stop(demo, signal.SIGINT)

    output = done.stdout + done.stderr
    assert (done.returncode, status) == (0, 0), output
    for words in (
        rf"{BATCH_REQUESTS} requests.*Nothing was sent",
        rf"exhausted +DCS\.4049 +{BATCH_REQUESTS} ",
        r"parked: exhausted \(DCS\.4049\)",
        "would create",
        rf"created +{BATCH_REQUESTS}",
    ):
        assert re.search(words, output), (words, output)
    assert (tasks["count"], tasks["repeated"]) == (192 + BATCH_REQUESTS, {}), output

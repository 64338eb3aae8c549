"""The demo as a process: on a private and on a given broker, to its end and interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest
from typer.testing import CliRunner

from tests.fakes.servers import RabbitMqServer
from tools.harness.running_system import free_port, machine_load_factor
from worker.cli import demo as demo_run
from worker.cli.app import app
from worker.tools.demo.requests import plan_requests

ROOT = Path(__file__).parents[2]
DEADLINE = 180.0


class Demo:
    """A demo process with a private folder for temporary files."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.output = ""

    def until(self, words: str) -> str:
        """Read on to the line that has these words; that line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if words in line:
                return line
        raise AssertionError(f"{words!r} never came: {self.output}")

    def end(self) -> tuple[int, str, str]:
        """Wait for the end: status, all of the output, errors."""
        rest, errors = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, self.output + rest, errors

    def traces(self) -> list[str]:
        """Folders and processes of the demo that there are now."""
        return [*os.listdir(self.folder), *_processes(str(self.folder))]

    def worker(self) -> int:
        """Process id of its worker."""
        (entry,) = (entry for entry in _processes(str(self.folder)) if "-m worker run" in entry)
        return int(entry.split()[0])


def _processes(folder: str) -> list[str]:
    """Processes that work in `folder` or name it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                place = os.readlink(entry / "cwd")
            except OSError:
                continue
            if folder in command or place.startswith(folder):
                found.append(f"{entry.name} {command}")
    return found


@contextmanager
def started(folder: Path, *options: str, url: str = "") -> Iterator[Demo]:
    """A demo in `folder`, on a private node or that at `url`; killed at the end if it still runs."""
    temporary = folder / "temporary"
    temporary.mkdir()
    (folder / ".env").write_text(f"WORKER_AMQP_URL=amqp://guest:guest@127.0.0.1:{free_port()}\n")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(temporary),
        "WORKER_AMQP_URL": f"amqp://guest:guest@127.0.0.1:{free_port()}",  # no command but this one ignores it
    }
    command = [sys.executable, "-m", "worker", "demo", *options, *(["--broker", url] if url else [])]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=folder) as process:
        try:
            yield Demo(process, temporary)
        finally:
            process.kill()


async def _left_on(rabbit: RabbitMqServer, url: str) -> str:
    """Queues and exchanges of a demo in the vhost of `url`."""
    vhost = url.rpartition("/")[2]
    queues = await rabbit.ctl("list_queues", "-p", vhost, "name")
    exchanges = await rabbit.ctl("list_exchanges", "-p", vhost, "name")
    return "\n".join(line for line in (queues + exchanges).splitlines() if "demo" in line)


def test_demo_on_private_node_succeeds_and_leaves_nothing(tmp_path: Path) -> None:
    """Within 20 s every request is answered as expected, each that should has one task, and nothing is left."""
    started_at = time.monotonic()
    with started(tmp_path) as demo:
        status, output, errors = demo.end()
        traces = demo.traces()
    took = time.monotonic() - started_at

    assert (status, errors, traces) == (0, "", []), output
    assert "200 of 200 answered" in output
    assert "192 tasks exist for the 192 requests that should have one: exactly one each." in output
    for outcome in ("created", "adopted", "rejected", "forbidden", "invalid_request"):
        assert f"\n{outcome} " in output
    assert "dcs-worker demo --keep" in output.splitlines()[-1]
    assert "\x1b" not in output
    assert took < 20 * machine_load_factor()


async def test_demo_on_given_broker_prints_json_and_removes_queues(
    tmp_path: Path, rabbit: RabbitMqServer, vhost: str
) -> None:
    """Standard output is one JSON document, progress goes to standard error, the broker is as it was."""
    with started(tmp_path, "--json", "--requests", "30", url=vhost) as demo:
        status, output, errors = demo.end()
        traces = demo.traces()

    verdict = json.loads(output)
    assert (status, traces, verdict["ok"], verdict["problems"]) == (0, [], True, [])
    assert verdict["tasks_found"] == verdict["tasks_expected"] == 29
    assert sum(row["requests"] for row in verdict["outcomes"]) == 30
    assert all(0 < row["p50"] <= row["p95"] <= row["max"] for row in verdict["outcomes"])
    assert "30 of 30 answered" in errors
    assert "guest:guest" not in errors
    assert await _left_on(rabbit, vhost) == ""


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("RabbitMQ: starting", signal.SIGTERM),
        ("RabbitMQ: ready", signal.SIGINT),
        (" answered: ", signal.SIGTERM),
    ],
)
def test_interrupted_demo_leaves_nothing(tmp_path: Path, words: str, number: signal.Signals) -> None:
    """While the node starts, the worker starts, or requests are under way: no process, no folder, no traceback."""
    with started(tmp_path) as demo:
        demo.until(words)
        if words == " answered: ":
            assert any("-m worker run" in trace for trace in demo.traces())
        demo.process.send_signal(number)
        status, _, errors = demo.end()
        traces = demo.traces()

    assert (status, errors, traces) == (128 + number, "", [])


async def test_interrupted_demo_removes_queues_on_given_broker(
    tmp_path: Path, rabbit: RabbitMqServer, vhost: str
) -> None:
    """Ctrl-C in the middle of the requests ends with 130, and neither broker nor machine keeps anything."""
    with started(tmp_path, "--requests", "3000", url=vhost) as demo:  # so many that it is not done before the signal
        demo.until(" answered: ")
        there = await _left_on(rabbit, vhost)
        demo.process.send_signal(signal.SIGINT)
        status, _, errors = demo.end()
        traces = demo.traces()

    assert ".requests" in there
    assert (status, errors, traces) == (130, "", [])
    assert await _left_on(rabbit, vhost) == ""


def test_kept_demo_serves_pages_until_ctrl_c(tmp_path: Path, vhost: str) -> None:
    """`--keep` prints all addresses, each answers, and Ctrl-C ends it with 0."""
    with started(tmp_path, "--keep", "--requests", "5", url=vhost) as demo:
        demo.until("Everything keeps running until Ctrl-C")
        broker = demo.until("  broker ")
        worker = demo.until("  worker ").split()[1]
        log = Path(demo.until("            log ").split()[1]).read_text()
        fake_dcs = demo.until("  fake DCS ").split()[2]
        exported = demo.until("  export FAKE_DCS=")
        with urlopen(f"{worker}/readyz", timeout=5) as reply:
            ready = reply.status
        with urlopen(f"{fake_dcs}/_tasks", timeout=5) as reply:
            tasks = json.loads(reply.read())["count"]
        demo.process.send_signal(signal.SIGINT)
        status, _, errors = demo.end()
        traces = demo.traces()

    assert "guest:***@127.0.0.1" in broker
    assert '"event":"worker.starting"' in log.replace('": "', '":"')
    assert exported.split() == ["export", f"FAKE_DCS={fake_dcs}"]
    assert (ready, tasks) == (200, 5)
    assert (status, errors, traces) == (0, "", [])


def test_unexpected_outcome_fails_demo(tmp_path: Path, vhost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a request succeeds that should not have, the demo names it and ends with 1."""
    (one,) = plan_requests(1)
    wrong = replace(one, kind=replace(one.kind, expected="rejected"))
    monkeypatch.setattr(demo_run, "plan_requests", lambda _: [wrong])
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["demo", "--broker", vhost])

    assert result.exit_code == 1
    assert f"{wrong.request_id} (none): created instead of rejected" in result.output
    assert f"{wrong.request_id} (none): 1 tasks called {wrong.name}" in result.output


def test_killed_worker_fails_demo(tmp_path: Path, vhost: str) -> None:
    """The demo reports it in one sentence and leaves nothing."""
    with started(tmp_path, url=vhost) as demo:
        demo.until(" answered: ")
        os.kill(demo.worker(), signal.SIGKILL)
        status, _, errors = demo.end()
        traces = demo.traces()

    assert (status, traces) == (1, [])
    assert errors.startswith("The worker ended with status -9; its last output:\n")

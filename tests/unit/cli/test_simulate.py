"""`simulate`: the stand-in as a process, and what its options make of it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen

import pytest
import typer
from typer.testing import CliRunner

from worker.cli.simulate import simulate

COMMAND = "import typer; from worker.cli.simulate import simulate; typer.run(simulate)"
BODY = b'{"name":"x","vpc_id":"v","subnet_id":"s","security_group_id":"g"}'


@contextmanager
def _simulated(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    arguments = [sys.executable, "-c", COMMAND, "--port", "0", *options]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        try:
            assert run.stdout is not None
            lines = [run.stdout.readline()]
            while "/_tasks" not in lines[-1] and lines[-1]:
                lines.append(run.stdout.readline())
            yield run, "".join(lines)
        finally:
            run.kill()


def _url(announcement: str) -> str:
    return announcement.split(" on ", 1)[1].split(",", 1)[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_told_to_stop(number: signal.Signals) -> None:
    """It says where it is and how to point a worker at it, creates tasks, and ends with 0 and silence."""
    with _simulated("--auth", "token", "--script", "x=create then no id; ok") as (run, announcement):
        url = _url(announcement)
        assert f'WORKER_DCS_ENDPOINTS=\'{{"cn-north-4": "{url}"}}\'' in announcement
        assert "WORKER_AUTH_TOKEN=stand-in-token" in announcement
        headers = {"Content-Type": "application/json", "X-Auth-Token": "stand-in-token"}
        with urlopen(Request(f"{url}/v2/p/migration/instance", BODY, headers), timeout=5) as reply:
            assert reply.read() == b"{}"
        with urlopen(f"{url}/_tasks", timeout=5) as reply:
            assert b'"count": 1' in reply.read()

        run.send_signal(number)
        output, errors = run.communicate(timeout=5)

    assert (run.returncode, output, errors) == (0, "", "")


def test_a_given_secret_is_not_repeated() -> None:
    """Built-in credentials are printed for convenience, others never."""
    with _simulated("--auth", "token", "--settings", '{"auth": {"token": "given-token"}}') as (_, announcement):
        assert "given-token" not in announcement
        assert "WORKER_AUTH_TOKEN='the one you gave'" in announcement


def test_a_port_in_use_is_said_in_one_sentence() -> None:
    """The command fails with status 1 when it cannot listen."""
    with _simulated() as (_, announcement):
        port = _url(announcement).rsplit(":", 1)[1]
        second = CliRunner().invoke(_app(), ["--port", port])

    assert second.exit_code == 1
    assert second.output.startswith(f"cannot listen on 127.0.0.1, port {port}: ")


def test_one_that_runs_is_changed_and_changed_back() -> None:
    """Faults that are given replace those that were, none means that it works well again; all else stays."""
    with _simulated("--fault", "drop=1", "--latency", "0.01") as (_, announcement):
        url = _url(announcement)
        broken = CliRunner().invoke(_app(), ["--change", url, "--fault", "error 400 DCS.4049=0.5"])
        with urlopen(f"{url}/_settings", timeout=5) as reply:
            after = json.loads(reply.read())
        mended = CliRunner().invoke(_app(), ["--change", f"{url}/"])
        with urlopen(f"{url}/_settings", timeout=5) as reply:
            at_last = json.loads(reply.read())

    assert (broken.exit_code, broken.output) == (0, "From now on calls meet: error 400 DCS.4049 (50%).\n")
    assert (after["faults"], after["latency"]) == ({"error 400 DCS.4049": 0.5}, 0.01)
    assert (mended.exit_code, mended.output) == (0, "From now on calls meet: nothing unusual.\n")
    assert at_last["faults"] == {}


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "file:///etc/passwd", "nonsense", "http://[", "http://127.0.0.1:x/"]
)
def test_what_is_no_stand_in_cannot_be_changed(url: str) -> None:
    """69 and one sentence."""
    result = CliRunner().invoke(_app(), ["--change", url])

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (69, "", 1)
    assert url in result.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--fault", "drop"], "is not a step and its probability"),
        (["--fault", "explode=0.1"], "'explode' is not a fault step"),
        (["--fault", "drop=0.7", "--fault", "hang=0.7"], "add up to more than 1"),
        (["--script", "x"], "is not a task name and its steps"),
        (["--quota", "many"], "is not a quota"),
        (["--settings", "{"], "not JSON"),
        (["--settings", "[]"], "not a JSON object"),
        (["--settings", '{"latncy": 1}'], "latncy"),
        (["--auth", "magic"], "magic"),
    ],
)
def test_wrong_options_are_refused(options: list[str], complaint: str) -> None:
    """A wrong option ends with the status of wrong usage and names the fault."""
    result = CliRunner().invoke(_app(), options, env={"TERMINAL_WIDTH": "200"})

    assert result.exit_code == 2
    assert complaint in result.output


def _app() -> typer.Typer:
    app = typer.Typer()
    app.command()(simulate)
    return app

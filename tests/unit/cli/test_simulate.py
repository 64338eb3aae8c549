"""`simulate`: the fake DCS as a process, and its options."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

import pytest
import typer
from typer.testing import CliRunner

from worker.cli.simulate import simulate
from worker.tools.fake_dcs.named_faults import NAMED_FAULTS
from worker.tools.fake_dcs.platform import WAYS

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
def test_server_runs_until_a_signal(number: signal.Signals) -> None:
    """It prints its address and the variables for a worker, creates tasks, and exits with 0 without output."""
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


def test_secret_of_the_caller_is_not_printed() -> None:
    """Only built-in credentials are."""
    with _simulated("--auth", "token", "--settings", '{"auth": {"token": "given-token"}}') as (_, announcement):
        assert "given-token" not in announcement
        assert "WORKER_AUTH_TOKEN='the one you gave'" in announcement


def test_keys_of_the_platform_are_offered_by_each_way() -> None:
    """The printed variables of each are those of a worker, and the agent among them gives keys."""
    with _simulated("--auth", "platform") as (_, announcement):
        lines = [line.strip() for line in announcement.splitlines() if "$PWD/workload-token" in line]
        assert [line.rpartition("# ")[2] for line in lines] == list(WAYS)
        named = dict(pair.partition("=")[::2] for line in lines for pair in line.split()[1:] if "=" in pair)
        assert named.keys() == {name for variables in WAYS.values() for name in variables}
        headers = {"Content-Type": "application/json", "Authorization": "stand-in-workload-token"}
        agent = Request(named["HC_CONTAINER_CREDENTIALS_FULL_URI"], b"{}", headers)
        with urlopen(agent, timeout=5) as reply:
            assert json.loads(reply.read())["credentials"].keys() >= {"accessKeyId", "securityToken"}


def test_port_in_use_exits_with_1_and_one_sentence() -> None:
    """The sentence names address and port."""
    with _simulated() as (_, announcement):
        port = _url(announcement).rsplit(":", 1)[1]
        second = CliRunner().invoke(_app(), ["--port", port])

    assert second.exit_code == 1
    assert second.output.startswith(f"cannot listen on 127.0.0.1, port {port}: ")


def _settings(url: str) -> dict[str, Any]:
    with urlopen(f"{url}/_settings", timeout=5) as reply:
        settings: dict[str, Any] = json.loads(reply.read())
    return settings


def test_change_replaces_the_faults_of_a_running_server() -> None:
    """Without any option it has none afterwards; other settings stay."""
    with _simulated("--fault", "drop=1", "--latency", "0.01") as (_, announcement):
        url = _url(announcement)
        faulty = CliRunner().invoke(_app(), ["--change", url, "--fault", "error 400 DCS.4049=0.5"])
        after = _settings(url)
        restored = CliRunner().invoke(_app(), ["--change", f"{url}/"])
        finally_ = _settings(url)

    assert (faulty.exit_code, faulty.output) == (0, 'From now on: faults {"error 400 DCS.4049": 0.5}.\n')
    assert (after["faults"], after["latency"]) == ({"error 400 DCS.4049": 0.5}, 0.01)
    assert (restored.exit_code, restored.output) == (0, "From now on: faults none.\n")
    assert (finally_["faults"], finally_["latency"]) == ({}, 0.01)


def test_change_applies_every_option_and_keeps_what_it_does_not_name() -> None:
    """Faults stay when another setting changes; scripts are replaced; --settings goes over the options."""
    options = {
        "--seed": "7",
        "--visibility": "2",
        "--latency": "0.5",
        "--capacity": "3",
        "--quota": "5/minute per project",
        "--script": "new=hang; ok",
        "--auth": "token",
        "--settings": '{"auth": {"token": "given"}, "job_id": false, "capacity": null}',
    }
    with _simulated("--fault", "drop=1", "--script", "old=drop") as (_, announcement):
        url = _url(announcement)
        done = CliRunner().invoke(_app(), ["--change", url, *(text for option in options.items() for text in option)])
        after = _settings(url)
        second = CliRunner().invoke(_app(), ["--change", url, "--settings", '{"quota": null}'])
        finally_ = _settings(url)

    assert (done.exit_code, second.exit_code, second.output) == (0, 0, "From now on: quota none.\n")
    assert "given" not in done.output
    assert (after["seed"], after["visibility"], after["latency"], after["capacity"]) == (7, 2, 0.5, 0)
    assert (after["quota"]["limit"], after["quota"]["unit"], after["quota"]["per"]) == (5, "minute", "project")
    assert (after["scripts"], after["faults"], after["job_id"]) == ({"new": ["hang", "ok"]}, {"drop": 1.0}, False)
    assert (after["auth"]["mode"], finally_["quota"], finally_["latency"]) == ("token", None, 0.5)


@pytest.mark.parametrize("options", [["--port", "0"], ["--host", "127.0.0.1"]])
def test_change_refuses_an_address(options: list[str]) -> None:
    """A running server keeps its address: an option that cannot be applied is wrong usage."""
    result = CliRunner().invoke(_app(), ["--change", "http://127.0.0.1:1", *options])

    assert (result.exit_code, result.stdout) == (2, "")
    assert options[0] in result.stderr


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "file:///etc/passwd", "nonsense", "http://[", "http://127.0.0.1:x/"]
)
def test_change_of_something_else_exits_with_69(url: str) -> None:
    """The sentence names the URL."""
    result = CliRunner().invoke(_app(), ["--change", url])

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (69, "", 1)
    assert url in result.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--fault", "drop"], "is not a step and its probability"),
        (["--fault", "explode=0.1"], ": faults.explode: 'explode' is not a fault step"),
        (
            ["--fault", "drop=0.7", "--fault", "hang=0.7"],
            "value: the probabilities of the faults add up to more than 1",
        ),
        (["--script", "x"], "is not a task name and its steps"),
        (["--quota", "many"], "quota: 'many' is not a quota"),
        (["--quota", "0/minute"], "greater than 0"),
        (["--settings", "{"], "not JSON"),
        (["--settings", "[]"], "not a JSON object"),
        (["--settings", '{"latncy": 1}'], "latncy: unknown setting"),
        (["--auth", "magic"], "magic"),
    ],
)
def test_invalid_option_is_wrong_usage(options: list[str], complaint: str) -> None:
    """The exit status is 2, and the message names the problem."""
    result = CliRunner().invoke(_app(), options, env={"TERMINAL_WIDTH": "200"})

    assert result.exit_code == 2
    assert complaint in result.output


def test_help_lists_every_named_fault() -> None:
    """As a step of --fault and --script."""
    result = CliRunner().invoke(_app(), ["--help"], env={"TERMINAL_WIDTH": "400"})

    text = " ".join(result.output.replace("│", " ").split())
    assert [fault.name for fault in NAMED_FAULTS if fault.name not in text] == []


def _app() -> typer.Typer:
    app = typer.Typer()
    app.command()(simulate)
    return app

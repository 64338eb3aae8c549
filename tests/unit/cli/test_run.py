"""The command `run` with a configuration that is wrong (one line per problem), and with closed standard streams."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def run(folder: Path, redirection: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """`dcs-worker run` with these variables alone; `redirection`: of its standard streams, as a shell has it."""
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "WORKER_SECRETS_DIR": str(folder), **variables}
    command = ["sh", "-c", f'exec "$0" -m worker run {redirection}', sys.executable]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)


@pytest.mark.parametrize("variables", [{}, {"WORKER_LOG_FORMAT": "json"}])
def test_problem_is_a_json_line_in_json_mode(variables: dict[str, str], tmp_path: Path) -> None:
    """On standard error, with variable and problem apart; a warning beside them stays one."""
    done = run(tmp_path, WORKER_PREFETCH="many", WORKER_AUTH_TOKEN="t0ken", WORKER_PREFETSCH="1", **variables)

    invalid, warning = map(json.loads, done.stderr.splitlines())
    assert (done.returncode, done.stdout) == (78, "")
    assert (invalid["level"], invalid["event"], invalid["variable"]) == ("error", "config.invalid", "WORKER_PREFETCH")
    assert invalid["message"] == f"WORKER_PREFETCH: {invalid['problem']}"
    assert (warning["level"], warning["event"], warning["variable"]) == (
        *("warning", "config.warning"),
        "WORKER_PREFETSCH",
    )


def test_problem_is_plain_text_in_console_mode(tmp_path: Path) -> None:
    """As it is read in a terminal."""
    done = run(tmp_path, WORKER_PREFETCH="many", WORKER_AUTH_TOKEN="t0ken", WORKER_LOG_FORMAT="console")

    assert done.returncode == 78
    assert done.stderr.startswith("WORKER_PREFETCH: must be ")


def test_problem_that_is_found_later_is_reported_in_the_same_way(tmp_path: Path) -> None:
    """A port that is not free, a file that is no certificate; a warning before it has its problem apart as well."""
    (tmp_path / "ca.pem").write_text("no certificate")
    variables = {"WORKER_AUTH_TOKEN": "t0ken", "WORKER_DCS_CA_FILE": str(tmp_path / "ca.pem")}
    done = run(tmp_path, WORKER_PREFETSCH="1", **variables)

    (warning,) = (line for line in map(json.loads, done.stdout.splitlines()) if line["event"] == "config.warning")
    assert warning["message"] == f"WORKER_PREFETSCH: {warning['problem']}"
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (done.returncode, line["event"], line["variable"]) == (78, "config.invalid", "WORKER_DCS_CA_FILE")


def test_passwords_of_urls_are_redacted_alone(tmp_path: Path) -> None:
    """Those of broker, Redis and proxy, wherever they are in a line; here in the name of the queue."""
    (tmp_path / "ca.pem").write_text("no certificate")
    variables = {
        "WORKER_AUTH_TOKEN": "t0ken",
        "WORKER_AMQP_URL": "amqp://user:br%23ker-word@127.0.0.1:1",
        "WORKER_CLAIMS_URL": "redis://:redis-word@127.0.0.1:1",
        "HTTPS_PROXY": "http://user:proxy-word@127.0.0.1:1",
        "WORKER_QUEUE": "a.br#ker-word.redis-word.proxy-word.z",
        "WORKER_DCS_CA_FILE": str(tmp_path / "ca.pem"),
    }
    done = run(tmp_path, **variables)
    (line,) = map(json.loads, done.stdout.splitlines())
    assert (line["event"], line["queue"]) == ("worker.starting", "a.***.***.***.z")
    assert line["message"].endswith("requests come from queue a.***.***.***.z")


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-", "2>&-"])
def test_worker_runs_with_closed_standard_streams(closed: str, tmp_path: Path) -> None:
    """A supervisor without a log closes them: no connection takes their place, and lines are lost without an error."""
    settings = {
        "WORKER_AUTH_TOKEN": "t" * 64,
        "WORKER_AMQP_URL": "amqp://127.0.0.1:1/",  # refuses connections
        "WORKER_BROKER_PATIENCE": "0.5",
        "WORKER_HTTP_HOST": "127.0.0.1",
        "WORKER_HTTP_PORT": "0",
    }

    done = run(tmp_path, closed, **settings)

    assert (done.returncode, "Traceback" in done.stdout + done.stderr) == (69, False)

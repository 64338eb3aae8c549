"""`submit` without a broker: what it takes, what it says, and what it costs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from worker.cli.app import app
from worker.tools.nodes import free_port

ROOT = Path(__file__).parents[4]
TASK = {"name": "one", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads a `.env` that lies about."""
    monkeypatch.chdir(tmp_path)


def _body(**changes: Any) -> bytes:
    return json.dumps({"project_id": "p", "task": TASK} | changes).encode()


def test_checking_needs_no_broker_and_sends_nothing(tmp_path: Path) -> None:
    """A good file ends with 0, a wrong one with 1 and its flaws, in words and as JSON."""
    (tmp_path / "good.jsonl").write_bytes(_body() + b"\n" + _body() + b"\n")
    (tmp_path / "wrong.jsonl").write_bytes(_body() + b"\n" + _body(project_id="\x1b") + b"\n")

    good = CliRunner().invoke(app, ["submit", "good.jsonl", "--check"])
    assert (good.exit_code, good.stdout) == (
        0,
        "2 lines, of which 1 line repeats an earlier one and so add nothing: 1 request. Nothing was sent.\n",
    )
    wrong = CliRunner().invoke(app, ["submit", "wrong.jsonl", "--check", "--json"])
    error = {"line": 2, "field": "project_id", "message": "must be 1 to 64 of A-Z a-z 0-9 _ -"}
    assert (wrong.exit_code, json.loads(wrong.stdout)["flaws"]) == (1, [error])
    plain = CliRunner().invoke(app, ["submit", "wrong.jsonl"])
    assert (plain.exit_code, plain.stdout) == (1, "")
    assert plain.stderr.endswith("1 of 2 lines are no requests: nothing was sent.\n")


def test_an_example_of_the_schema_can_be_submitted() -> None:
    """What `schema request --example` prints is taken as it is."""
    example = CliRunner().invoke(app, ["schema", "request", "--example"]).stdout

    done = CliRunner().invoke(app, ["submit", "-", "--format", "json", "--check"], input=example)

    assert (done.exit_code, done.stdout) == (0, "1 request. Nothing was sent.\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give either a FILE or the options of one request"),
        (["file.jsonl", "--name", "n"], "give either a FILE or the options of one request"),
        (["--project", "p", "--name", "n"], "--vpc is missing; --subnet is missing; --security-group is missing"),
        (["nowhere.jsonl"], "No such file or directory"),
        (["."], "Is a directory"),
        (["-", "--rate", "0"], "--rate"),
    ],
)
def test_wrong_usage_is_said_in_options(arguments: list[str], complaint: str) -> None:
    """It ends with 2, and names what to change."""
    done = CliRunner().invoke(app, ["submit", *arguments])

    assert done.exit_code == 2
    assert complaint in " ".join(done.stderr.split())


def test_an_empty_file_is_a_failure() -> None:
    """Nothing was asked for, which nobody wants."""
    done = CliRunner().invoke(app, ["submit", "-"], input="\n\n")

    assert (done.exit_code, done.stderr) == (1, "There is no request in -.\n")


def test_a_broker_that_is_down_is_one_sentence_and_a_count() -> None:
    """It ends with 69 after the check."""
    url = f"amqp://guest:hunter2@127.0.0.1:{free_port()}/"
    done = CliRunner().invoke(app, ["submit", "-"], input=_body(), env={"WORKER_AMQP_URL": url})

    assert (done.exit_code, done.stdout) == (69, "")
    assert done.stderr.endswith("0 of 1 requests are confirmed. Submit the same again: nothing is created twice.\n")


_MEASURE = """
import resource, sys
from worker.cli.app import app
try:
    app(["submit", sys.argv[1], "--check"])
except SystemExit:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Thirty times the lines take no more than a few MB more."""
    peaks = []
    for count in (1_000, 30_000):
        file = tmp_path / f"{count}.jsonl"
        with file.open("wb") as stream:
            for number in range(count):
                stream.write(_body(task=TASK | {"name": f"task-{number}", "description": "x" * 500}) + b"\n")
        command = [sys.executable, "-c", _MEASURE, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        assert f"{count:,} requests." in done.stdout
        peaks.append(int(done.stdout.splitlines()[-1]) / 1024)

    assert peaks[1] - peaks[0] < 8  # MB; their bodies alone have 18

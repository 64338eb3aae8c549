"""`submit` without a broker: input, output, wrong usage, memory use."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from worker.cli.app import app
from worker.tools.servers import free_port

ROOT = Path(__file__).parents[4]
TASK = {"name": "one", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}


def _body(**changes: Any) -> bytes:
    return json.dumps({"project_id": "p", "task": TASK} | changes).encode()


def test_check_validates_without_a_broker(tmp_path: Path) -> None:
    """A valid file exits with 0, an invalid one with 1 and its errors, as text and as JSON."""
    (tmp_path / "valid.jsonl").write_bytes(_body() + b"\n" + _body() + b"\n")
    (tmp_path / "invalid.jsonl").write_bytes(_body() + b"\n" + _body(project_id="\x1b") + b"\n")

    valid = CliRunner().invoke(app, ["submit", "valid.jsonl", "--check"])
    assert (valid.exit_code, valid.stdout) == (
        0,
        "2 lines, of which 1 line repeats an earlier one: 1 request, all valid. Nothing was sent (--check).\n",
    )
    invalid = CliRunner().invoke(app, ["submit", "invalid.jsonl", "--check", "--json"])
    error = {"line": 2, "field": "project_id", "message": "must be 1 to 64 of A-Z a-z 0-9 _ -"}
    assert (invalid.exit_code, json.loads(invalid.stdout)["flaws"]) == (1, [error])
    plain = CliRunner().invoke(app, ["submit", "invalid.jsonl"])
    assert (plain.exit_code, plain.stdout) == (1, "")
    assert plain.stderr.endswith("1 of 2 lines are invalid. Nothing was sent.\n")


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("requests.txt", b"project_id;name\np;n\n", "The input was read as jsonl; --format sets another format.\n"),
        ("pretty.jsonl", json.dumps({"project_id": "p"}, indent=1).encode(), "read as jsonl; --format "),
        ("lines.json", _body() + b"\n" + _body(), "read as json; --format "),
        ("Requests.XLSX", b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0\xb5U0#\n\n\n", "save the table as CSV in UTF-8"),
    ],
)
def test_input_in_another_format_is_recognised(tmp_path: Path, name: str, content: bytes, hint: str) -> None:
    """If no line is valid, how it was read is said; one sentence for a workbook. Else the lines are to blame."""
    file = tmp_path / name
    file.write_bytes(content)
    done = CliRunner().invoke(app, ["submit", str(file)])
    assert (done.exit_code, done.stdout) == (1, "")
    assert hint in done.stderr

    partly = CliRunner().invoke(app, ["submit", "-"], input=_body() + b"\n{\n")
    assert "read as" not in partly.stderr


def test_example_of_the_schema_is_valid_input() -> None:
    """`submit` accepts what `schema request --example` prints."""
    example = CliRunner().invoke(app, ["schema", "request", "--example"]).stdout

    done = CliRunner().invoke(app, ["submit", "-", "--format", "json", "--check"], input=example)

    assert (done.exit_code, done.stdout) == (0, "1 request, all valid. Nothing was sent (--check).\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give either a FILE or the options of one request"),
        (["file.jsonl", "--name", "n"], "give either a FILE or the options of one request"),
        (["--project", "p", "--name", "n"], "--vpc is missing; --subnet is missing; --security-group is missing"),
        (["--project", "p", "--name", "Gr\udcf6\udcdfe"], "is not JSON in UTF-8"),
        (["nowhere.jsonl"], "No such file or directory"),
        (["."], "Is a directory"),
        (["-", "--rate", "0"], "--rate"),
    ],
)
def test_wrong_usage_names_the_option(arguments: list[str], complaint: str) -> None:
    """The exit status is 2."""
    done = CliRunner().invoke(app, ["submit", *arguments])

    assert done.exit_code == 2
    assert complaint in " ".join(done.stderr.split())


def test_empty_input_exits_with_1() -> None:
    """It is probably a mistake."""
    done = CliRunner().invoke(app, ["submit", "-"], input="\n\n")

    assert (done.exit_code, done.stderr) == (1, "Standard input is empty.\n")


def test_unreachable_broker_exits_with_69_and_the_number_of_sent_requests() -> None:
    """The error has no password."""
    url = f"amqp://guest:hunter2@127.0.0.1:{free_port()}/"
    done = CliRunner().invoke(app, ["submit", "-"], input=_body(), env={"WORKER_AMQP_URL": url})

    assert (done.exit_code, done.stdout) == (69, "")
    assert done.stderr.endswith(
        "0 of 1 requests are confirmed. Submit the same input again: no task is created twice.\n"
    )
    assert "hunter2" not in done.stderr


_MEASURE = """
import resource, sys
from worker.cli.app import app
try:
    app(["submit", sys.argv[1], "--check"])
except SystemExit:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_use_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Thirty times the lines need only a few MB more."""
    peaks = []
    for count in (1_000, 30_000):
        file = tmp_path / f"{count}.jsonl"
        with file.open("wb") as stream:
            for number in range(count):
                stream.write(_body(task=TASK | {"name": f"task-{number}", "description": "x" * 500}) + b"\n")
        command = [sys.executable, "-c", _MEASURE, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        assert f"{count:,} requests, all valid." in done.stdout
        peaks.append(int(done.stdout.splitlines()[-1]) / 1024)

    assert peaks[1] - peaks[0] < 8  # MB; their bodies alone have 18

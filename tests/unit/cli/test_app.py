"""The command line as a whole: what it loads, what it says, how it ends."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker import __version__
from worker.cli.app import app
from worker.cli.common import run_interruptible

COMMANDS = sorted(command.callback.__name__ for command in app.registered_commands if command.callback)
HEAVY = ("aio_pika", "aiohttp", "httpx2", "prometheus_client", "pydantic", "redis", "rich", "structlog", "uvloop")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads a `.env` that lies about."""
    monkeypatch.chdir(tmp_path)


def test_loading_the_commands_loads_nothing_that_they_work_with() -> None:
    """Help, completion and usage errors answer fast: the libraries come with the command that needs them."""
    code = f"import sys, worker.cli.app; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )

    assert done.stdout == "[]\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_an_example(command: str) -> None:
    """Every command says what it does, and shows on its last line how it is called."""
    result = CliRunner().invoke(app, [command, "--help"])

    assert result.exit_code == 0
    last = result.output.rstrip().splitlines()[-1]
    assert last.startswith("  Example: ")
    assert f"dcs-worker {command}" in last


def test_the_version_is_told() -> None:
    """`--version` prints name and version."""
    result = CliRunner().invoke(app, ["--version"])

    assert (result.exit_code, result.output) == (0, f"dcs-worker {__version__}\n")


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("dcs-worker to", ["topology"]),
        ("dcs-worker parked re", ["replay"]),
        ("dcs-worker topology ch", ["check"]),
        ("dcs-worker explain --li", ["--listen"]),
    ],
)
def test_a_shell_can_complete_it(typed: str, completed: list[str]) -> None:
    """Commands, options and values, as the script of `--show-completion bash` asks for them."""
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_DCS_WORKER_COMPLETE": "complete_bash"}
    result = CliRunner().invoke(app, [], prog_name="dcs-worker", env=words)

    assert result.output.split() == completed


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["demo", "--requests", "0"], ["topology", "explode"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    """An unknown command, option value or nothing at all is wrong usage, answered with usage and no traceback."""
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 2
    assert "Usage:" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", [["topology"], ["topology", "apply"], ["demo"]])
def test_every_problem_of_the_configuration_has_a_line(command: list[str]) -> None:
    """A wrong configuration ends with 78, one line per variable on standard error, and nothing on standard output."""
    wrong = {"WORKER_PREFETCH": "many", "WORKER_QUEUE": "", "WORKER_RETRY_DELAYS": "soon"}
    result = CliRunner().invoke(app, command, env=wrong)

    assert (result.exit_code, result.stdout) == (78, "")
    assert [line.partition(":")[0] for line in result.stderr.splitlines()] == ["WORKER_PREFETCH", "WORKER_RETRY_DELAYS"]


def test_a_variable_that_nobody_knows_is_a_warning() -> None:
    """A misspelt variable is said, with the one that was probably meant, and the command goes on."""
    result = CliRunner().invoke(app, ["topology"], env={"WORKER_QUEU": "mine"})

    assert result.exit_code == 0
    assert result.stderr.startswith("warning: ")
    assert "WORKER_QUEUE" in result.stderr


def test_run_ends_with_the_worker_s_status() -> None:
    """`run` among the commands is the same `run`: here one that lacks credentials."""
    result = CliRunner().invoke(app, ["run"])

    assert result.exit_code == 78
    assert "WORKER_AUTH_TOKEN" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_work_clear_up(number: signal.Signals) -> None:
    """Work that is interrupted runs its endings, and the status says by which signal."""
    cleared: list[bool] = []

    async def work() -> int:
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            cleared.append(True)
        return 0

    assert (run_interruptible(work()), cleared) == (128 + number, [True])


def test_work_without_a_signal_ends_with_its_own_status() -> None:
    """Nobody interrupts: the status is the work's."""

    async def work() -> int:
        return 69

    assert run_interruptible(work()) == 69

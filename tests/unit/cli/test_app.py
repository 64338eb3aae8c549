"""The command line as a whole: imports, help, completion, wrong usage, invalid configuration."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker import __version__
from worker.cli.app import app

COMMANDS = sorted(command.callback.__name__ for command in app.registered_commands if command.callback)
HEAVY = ("aio_pika", "aiohttp", "httpx2", "prometheus_client", "pydantic", "redis", "rich", "structlog", "uvloop")


def test_importing_the_command_line_imports_no_heavy_library() -> None:
    """Help, completion and usage errors are fast: a command imports its libraries when it runs."""
    code = f"import sys, worker.cli.app; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )

    assert done.stdout == "[]\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_an_example(command: str) -> None:
    """The last line of every help text is an example of the command."""
    result = CliRunner().invoke(app, [command, "--help"])

    assert result.exit_code == 0
    last = result.output.rstrip().splitlines()[-1]
    assert last.startswith("  Example: ")
    assert f"dcs-worker {command}" in last


def test_version_option_prints_name_and_version() -> None:
    """The exit status is 0."""
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
def test_shell_completion_completes_commands_options_and_values(typed: str, completed: list[str]) -> None:
    """The environment is the one that the script of `--show-completion bash` sets."""
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_DCS_WORKER_COMPLETE": "complete_bash"}
    result = CliRunner().invoke(app, [], prog_name="dcs-worker", env=words)

    assert result.output.split() == completed


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["demo", "--requests", "0"], ["topology", "explode"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    """An unknown command, an invalid value or no command at all prints the usage and no traceback."""
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 2
    assert "Usage:" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("command", [["topology"], ["topology", "apply"], ["demo", "--broker", "amqp://127.0.0.1"]])
def test_invalid_configuration_exits_with_78_and_one_line_per_variable(command: list[str]) -> None:
    """The lines are on standard error, and standard output is empty."""
    wrong = {"WORKER_PREFETCH": "many", "WORKER_QUEUE": "", "WORKER_RETRY_DELAYS": "soon"}
    result = CliRunner().invoke(app, command, env=wrong)

    assert (result.exit_code, result.stdout) == (78, "")
    assert [line.partition(":")[0] for line in result.stderr.splitlines()] == ["WORKER_PREFETCH", "WORKER_RETRY_DELAYS"]


def test_unknown_variable_is_a_warning_with_the_nearest_known_name() -> None:
    """The command goes on."""
    result = CliRunner().invoke(app, ["topology"], env={"WORKER_QUEU": "mine"})

    assert result.exit_code == 0
    assert result.stderr.startswith("warning: ")
    assert "WORKER_QUEUE" in result.stderr


def test_run_without_credentials_exits_with_78() -> None:
    """The message names the variables."""
    result = CliRunner().invoke(app, ["run"])

    assert result.exit_code == 78
    assert "WORKER_AUTH_TOKEN" in result.stderr

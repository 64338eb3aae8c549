"""Tests of the command `make prove`: output and exit status."""

import json
from collections.abc import Callable

import pytest

from tests.simulation import __main__ as command
from tests.simulation.mutations.catalogue import MUTATIONS

RunCommand = Callable[..., tuple[int, str]]


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """Run the command with arguments; returns exit status and output."""

    def called(*arguments: str) -> tuple[int, str]:
        try:
            status = command.main(arguments)
        except SystemExit as error:
            status = int(str(error.code))
        return status, "".join(capsys.readouterr())

    return called


def test_report_shows_coverage(run_command: RunCommand) -> None:
    """It shows runs, seeds and faults."""
    status, output = run_command("--runs", "20", "--seed", "1000")
    assert status == 0
    assert "20 runs" in output
    assert "seeds 1000 to 1019" in output
    assert "faults:" in output
    assert "No law was broken." in output


def test_json_report_has_counts(run_command: RunCommand) -> None:
    """`--json` prints the report as JSON."""
    status, output = run_command("--runs", "20", "--seed", "1000", "--json")
    record = json.loads(output)
    assert status == 0
    assert (record["runs"], record["sampled"], record["first_seed"], record["is_good"]) == (20, 20, 1000, True)


def test_single_run_prints_timeline(run_command: RunCommand) -> None:
    """The run of a single seed is printed."""
    status, output = run_command("--runs", "1", "--seed", "1000")
    assert status == 0
    assert "sends request 0" in output


def test_broken_law_exits_1_and_prints_replay_command(run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    """The printed command replays the failure."""
    monkeypatch.setattr(command, "assemble", MUTATIONS[0].assemble)
    status, output = run_command("--runs", "60")
    assert status == 1
    assert "BROKEN" in output
    _, _, text = output.partition("--plan '")
    status, output = run_command("--plan", text.partition("'")[0])
    assert status == 1
    assert "BROKEN" in output
    assert json.loads(run_command("--runs", "60", "--json")[1])["failures"][0]["timeline"]


def test_unreadable_plan_exits_2(run_command: RunCommand) -> None:
    """The message names the option."""
    status, output = run_command("--plan", "{}x")
    assert status == 2
    assert "--plan" in output


def test_zero_runs_exit_2(run_command: RunCommand) -> None:
    """Zero runs would look like a success."""
    status, output = run_command("--runs", "0")
    assert status == 2
    assert "at least 1 run" in output

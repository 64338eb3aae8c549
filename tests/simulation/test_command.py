"""The command `make prove`: what it prints, and its exit status."""

import json
from collections.abc import Callable

import pytest

from tests.simulation import __main__ as command
from tests.simulation.mutations.catalogue import MUTATIONS

RunCommand = Callable[..., tuple[int, str]]


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """Call the command with these arguments: exit status, output and errors."""

    def called(*arguments: str) -> tuple[int, str]:
        try:
            status = command.main(arguments)
        except SystemExit as error:
            status = int(str(error.code))
        return status, "".join(capsys.readouterr())

    return called


def test_prints_what_it_covered(run_command: RunCommand) -> None:
    """Runs, points, faults and seeds."""
    status, output = run_command("--runs", "20", "--seed", "1000")
    assert status == 0
    assert "20 runs" in output
    assert "seeds 1000 to 1019" in output
    assert "faults:" in output
    assert "No law was broken." in output


def test_answers_in_json(run_command: RunCommand) -> None:
    """The same for programs."""
    status, output = run_command("--runs", "20", "--seed", "1000", "--json")
    record = json.loads(output)
    assert status == 0
    assert (record["runs"], record["sampled"], record["first_seed"], record["is_good"]) == (20, 20, 1000, True)


def test_one_run_is_shown(run_command: RunCommand) -> None:
    """A single seed is printed as a timeline."""
    status, output = run_command("--runs", "1", "--seed", "1000")
    assert status == 0
    assert "sends request 0" in output


def test_a_broken_law_is_exit_status_1(run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is printed with the command that replays it, which fails as well."""
    monkeypatch.setattr(command, "assemble", MUTATIONS[0].assemble)
    status, output = run_command("--runs", "60")
    assert status == 1
    assert "BROKEN" in output
    _, _, text = output.partition("--plan '")
    status, output = run_command("--plan", text.partition("'")[0])
    assert status == 1
    assert "BROKEN" in output
    assert json.loads(run_command("--runs", "60", "--json")[1])["failures"][0]["timeline"]


def test_a_plan_that_cannot_be_read_is_wrong_usage(run_command: RunCommand) -> None:
    """Exit status 2, with the reason."""
    status, output = run_command("--plan", "{}x")
    assert status == 2
    assert "--plan" in output


def test_no_runs_are_wrong_usage(run_command: RunCommand) -> None:
    """Zero runs would prove nothing and look like a success."""
    status, output = run_command("--runs", "0")
    assert status == 2
    assert "at least 1 run" in output

"""The command `prove`: what it prints, and its exit status."""

import json

import pytest
import typer
from typer.testing import CliRunner

from tests.simulation import command
from tests.simulation.mutations import MUTATIONS

app = typer.Typer()
app.command()(command.prove)


def prove(*arguments: str) -> tuple[int, str]:
    """Exit status and output."""
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output


def test_prints_what_it_covered() -> None:
    """Runs, points, faults and seeds."""
    status, output = prove("--runs", "20", "--seed", "1000")
    assert status == 0
    assert "20 runs" in output
    assert "seeds 1000 to 1019" in output
    assert "faults:" in output
    assert "No law was broken." in output


def test_answers_in_json() -> None:
    """The same for programs."""
    status, output = prove("--runs", "20", "--seed", "1000", "--json")
    record = json.loads(output)
    assert status == 0
    assert (record["runs"], record["sampled"], record["first_seed"], record["is_good"]) == (20, 20, 1000, True)


def test_one_run_is_shown() -> None:
    """A single seed is printed as a timeline."""
    status, output = prove("--runs", "1", "--seed", "1000")
    assert status == 0
    assert "sends request 0" in output


def test_a_broken_law_is_exit_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is printed with the command that replays it, which fails as well."""
    monkeypatch.setattr(command, "assemble", MUTATIONS[0].assemble)
    status, output = prove("--runs", "60")
    assert status == 1
    assert "BROKEN" in output
    _, _, text = output.partition("--plan '")
    status, output = prove("--plan", text.partition("'")[0])
    assert status == 1
    assert "BROKEN" in output
    assert json.loads(prove("--runs", "60", "--json")[1])["failures"][0]["timeline"]


def test_a_plan_that_cannot_be_read_is_wrong_usage() -> None:
    """Exit status 2, with the reason."""
    status, output = prove("--plan", "{}x")
    assert status == 2
    assert "--plan" in output

"""`parked` without a broker: what is chosen, and what is said."""

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.unit.cli.parked.test_request import BODY, NOW, parked_request
from worker.cli.app import app
from worker.cli.parked.selection import Selection, selection_from_options


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads a `.env` that lies about."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("options", "is_taken"),
    [
        ({"ids": ["r"]}, True),
        ({"ids": ["m"]}, True),
        ({"ids": ["other"]}, False),
        ({"ids": None, "every": True}, True),
        ({"ids": None, "reason": "exhausted", "project": "p"}, True),
        ({"ids": None, "reason": "exhausted", "project": "q"}, False),
        ({"ids": ["r"], "reason": "forbidden"}, False),
        ({"ids": None, "name": "batch-*"}, True),
        ({"ids": None, "name": "batch"}, False),
        ({"ids": None, "error_code": "DCS.1"}, False),
        ({"ids": None, "older_than": "2d"}, True),
        ({"ids": None, "older_than": "20000d"}, False),
    ],
)
def test_all_that_is_asked_for_must_hold(options: dict[str, Any], *, is_taken: bool) -> None:
    """Ids are alternatives, everything else narrows the choice."""
    assert selection_from_options(**options).matches(parked_request(message_id="m"), NOW) is is_taken


def test_an_unknown_age_is_not_old_enough() -> None:
    """What may be young is not taken for old."""
    assert not Selection(older_than=1.0).matches(parked_request(headers={}), NOW)


def test_nonsense_is_no_choice() -> None:
    """A span that is none, and everything together with something."""
    with pytest.raises(typer.BadParameter, match="not a duration"):
        selection_from_options(None, older_than="soon")
    with pytest.raises(typer.BadParameter, match="no other choice"):
        selection_from_options(["r"], every=True)


@pytest.mark.parametrize("command", ["list", "show", "replay", "drop", "export"])
def test_help_ends_with_an_example(command: str) -> None:
    """Every command below `parked` shows on its last line how it is called."""
    result = CliRunner().invoke(app, ["parked", command, "--help"])

    assert result.exit_code == 0
    assert result.output.rstrip().splitlines()[-1].startswith(f"  Example: dcs-worker parked {command}")


@pytest.mark.parametrize("command", ["replay", "drop"])
def test_what_changes_something_wants_a_choice(command: str) -> None:
    """Without ids, filter or --all it is wrong usage, and nobody is asked anything."""
    result = CliRunner().invoke(app, ["parked", command, "--yes"])

    assert result.exit_code == 2
    assert "say which" in result.stderr


def test_looking_needs_credentials_and_acting_does_not() -> None:
    """The dry run ends with 78 and the names of the variables; --yes gets as far as the broker."""
    environment = {"WORKER_AMQP_URL": "amqp://guest:guest@127.0.0.1:1/"}
    dry = CliRunner().invoke(app, ["parked", "replay", "--all"], env=environment)
    wet = CliRunner().invoke(app, ["parked", "replay", "--all", "--yes"], env=environment)

    assert (dry.exit_code, wet.exit_code) == (78, 69)
    assert "WORKER_AUTH_TOKEN" in dry.stderr


def test_a_certificate_that_is_none_is_a_matter_of_configuration(tmp_path: Path) -> None:
    """It ends with 78 and the variables, not with a traceback."""
    (tmp_path / "ca.pem").write_text("nonsense")
    environment = {"WORKER_AMQP_URL": "amqps://127.0.0.1:1/", "WORKER_AMQP_CA_FILE": str(tmp_path / "ca.pem")}
    for arguments in (["parked", "list"], ["submit", "-"]):
        done = CliRunner().invoke(app, arguments, env=environment, input=BODY)
        assert (done.exit_code, done.stdout) == (78, "")
        assert "WORKER_AMQP_CA_FILE" in done.stderr

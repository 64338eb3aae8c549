"""README.md stays short and true where that can be checked. tests/live/test_readme_commands.py runs its commands."""

import json
import re
from pathlib import Path

from dotenv import dotenv_values
from typer.core import TyperGroup
from typer.main import get_command

from schemas.event import MigrationSucceeded
from schemas.request import parse
from worker.cli.app import app
from worker.config import load
from worker.config.settings import variable

README = Path(__file__).parents[2] / "README.md"
MAX_LINES = 200


def test_readme_is_short() -> None:
    """A newcomer reads it in one go; everything else has a document."""
    assert len(README.read_text().splitlines()) <= MAX_LINES


def test_request_and_event_are_real() -> None:
    """Both examples are what the worker reads and writes."""
    request, event = re.findall(r"```json\n(.*?)```", README.read_text(), re.DOTALL)
    assert parse(request.encode(), max_bytes=65536).task.name == "dcs-migration-thrc"
    assert json.loads(MigrationSucceeded.model_validate_json(event).model_dump_json()) == json.loads(event)


def test_settings_file_is_accepted_as_printed(tmp_path: Path) -> None:
    """Every line of the `.env` file sets a setting, and together they are a configuration without a fault."""
    (printed,) = re.findall(r"```ini\n(.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / ".env").write_text(printed)
    settings = load({}, folder=tmp_path).settings
    assert {variable(field) for field in settings.model_fields_set} >= dotenv_values(tmp_path / ".env").keys()


def test_every_command_is_listed() -> None:
    """The table names the commands that the program has."""
    program = get_command(app)
    assert isinstance(program, TyperGroup)
    listed = set(re.findall(r"^\| `dcs-worker (\w+)` \|", README.read_text(), re.MULTILINE))
    assert listed == set(program.commands) - {"prove"}

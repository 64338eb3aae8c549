"""The README stays true where that can be checked."""

import json
import re
from pathlib import Path

from schemas.event import MigrationSucceeded
from schemas.request import parse
from worker.config import settings_table

README = Path(__file__).parents[2] / "README.md"


def test_the_settings_table_is_the_generated_one() -> None:
    """A setting that is added or changed is changed in the README too."""
    assert settings_table().strip() in README.read_text()


def test_the_request_and_the_event_are_real() -> None:
    """Both examples are what the worker reads and writes."""
    request, event = re.findall(r"```json\n(.*?)```", README.read_text(), re.DOTALL)[:2]
    assert parse(request.encode(), max_bytes=65536).task.name == "dcs-migration-thrc"
    assert json.loads(MigrationSucceeded.model_validate_json(event).model_dump_json()) == json.loads(event)

"""`schema`: the committed schemas and examples, as they are."""

import json
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

import schemas
from worker.cli.app import app
from worker.cli.schema import COMPLETE_DOCUMENTS, EXAMPLES

FOLDER = Path(schemas.__file__).parent


def test_the_schemas_are_listed() -> None:
    """Without a name every committed schema and what holds them all is listed, for people and for programs."""
    committed = {path.stem for path in (FOLDER / "json").glob("*.json")}
    listed = json.loads(CliRunner().invoke(app, ["schema", "--json"]).output)

    assert len(listed) == len(committed) + len(COMPLETE_DOCUMENTS)
    assert {"request", "succeeded", "failed"} <= listed.keys()
    lines = CliRunner().invoke(app, ["schema"]).output.splitlines()
    assert [line.split()[0] for line in lines] == list(listed)


def test_a_schema_is_printed_as_committed() -> None:
    """What is printed is the committed file."""
    result = CliRunner().invoke(app, ["schema", "failed"])

    assert result.exit_code == 0
    assert result.output == (FOLDER / "json" / "migration_failed.json").read_text("utf-8")


def test_the_asyncapi_document_is_printed_as_committed() -> None:
    """One file with all messages and where they go."""
    result = CliRunner().invoke(app, ["schema", "asyncapi"])

    assert result.exit_code == 0
    assert result.output == (FOLDER / "asyncapi.json").read_text("utf-8")


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_follows_its_schema(name: str) -> None:
    """The example of a message is valid by the schema of the same name."""
    schema = json.loads(CliRunner().invoke(app, ["schema", name]).output)
    example = json.loads(CliRunner().invoke(app, ["schema", name, "--example"]).output)

    jsonschema.Draft202012Validator(schema).validate(example)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nothing"], "'nothing' is none of"),
        (["envelope", "--example"], "no example of"),
        (["asyncapi", "--example"], "no example of"),
    ],
)
def test_what_is_not_there_is_wrong_usage(arguments: list[str], complaint: str) -> None:
    """An unknown name is answered with the known ones."""
    result = CliRunner().invoke(app, ["schema", *arguments])

    assert result.exit_code == 2
    assert complaint in result.output
    assert "request" in result.output

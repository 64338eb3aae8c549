"""`schema`: prints the committed schemas and examples unchanged, and a complete, self-contained, escaped page."""

import copy
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

import schemas
from schemas.asyncapi import document
from worker.cli.app import app
from worker.cli.schema import COMPLETE_DOCUMENTS, EXAMPLES, page

FOLDER = Path(schemas.__file__).parent
HOSTILE = "<script>alert(1)</script>\"'&"


def test_all_schemas_are_listed_without_a_name() -> None:
    """Every committed schema and the complete documents, as text and as JSON."""
    committed = {path.stem for path in (FOLDER / "json").glob("*.json")}
    listed = json.loads(CliRunner().invoke(app, ["schema", "--json"]).output)

    assert len(listed) == len(committed) + len(COMPLETE_DOCUMENTS)
    assert {"request", "succeeded", "failed"} <= listed.keys()
    lines = CliRunner().invoke(app, ["schema"]).output.splitlines()
    assert [line.split()[0] for line in lines] == list(listed)


def test_schema_is_printed_as_committed() -> None:
    """The output is the committed file."""
    result = CliRunner().invoke(app, ["schema", "failed"])

    assert result.exit_code == 0
    assert result.output == (FOLDER / "json" / "migration_failed.json").read_text("utf-8")


def test_asyncapi_document_is_printed_as_committed() -> None:
    """The output is the committed file."""
    result = CliRunner().invoke(app, ["schema", "asyncapi"])

    assert result.exit_code == 0
    assert result.output == (FOLDER / "asyncapi.json").read_text("utf-8")


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_valid_by_its_schema(name: str) -> None:
    """The schema of the same name accepts it."""
    schema = json.loads(CliRunner().invoke(app, ["schema", name]).output)
    example = json.loads(CliRunner().invoke(app, ["schema", name, "--example"]).output)

    jsonschema.Draft202012Validator(schema).validate(example)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nothing"], "unknown schema 'nothing'"),
        (["envelope", "--example"], "no example of"),
        (["asyncapi", "--example"], "no example of"),
    ],
)
def test_unknown_schema_or_example_is_wrong_usage(arguments: list[str], complaint: str) -> None:
    """The message lists the known names."""
    result = CliRunner().invoke(app, ["schema", *arguments])

    assert result.exit_code == 2
    assert complaint in result.output
    assert "request" in result.output


def cells(shown: str, message: str) -> dict[str, tuple[str, str]]:
    """Types and meaning of every field and header of a message, by path."""
    (article,) = re.findall(f'<article id="{message}">(.*?)</article>', shown, re.DOTALL)
    rows = re.findall(r"<tr><td><code>(.*?)</code>(.*?)</td><td>(.*?)</td><td>(.*?)</td></tr>", article)
    return {
        name + ("!" if mark else ""): (kind, unescape(re.sub("<[^>]*>", "", about))) for name, mark, kind, about in rows
    }


def hostile(value: Any, key: str = "") -> Any:
    """The same document with HTML in every text that the page only shows."""
    if isinstance(value, dict):
        return {name: hostile(member, name) for name, member in value.items()}
    if isinstance(value, list):
        return [hostile(member, key) for member in value]
    return HOSTILE if isinstance(value, str) and key not in ("$ref", "is", "action", "type", "format") else value


def test_page_has_every_field_at_every_depth() -> None:
    """With path, types, meaning and constraints; mandatory fields are marked."""
    shown = CliRunner().invoke(app, ["schema", "html"]).output
    request, failed = cells(shown, "request"), cells(shown, "migrationFailed")

    assert request["task.vpc_id!"] == ("string", "VPC ID; not empty; at most 1024 characters")
    assert request["task.description"][0] == "string"
    assert request["request_id"][1].endswith("must match ^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")
    assert failed["error.status!"] == ("integer or null", "HTTP status; null if there was no answer")
    assert failed["violations[].field!"][0] == "string"
    assert failed["reason!"][1].endswith("poison")
    assert failed["cloudEvents:type!"][1] == "always dcs.migration.failed.v1"
    assert cells(shown, "parkedRequest")["x-last-sent-at"][0] == "date-time"
    assert cells(shown, "journal")["entries[].evidence"][1].startswith("What a failed call proves")


def test_page_has_exchanges_keys_queues_and_examples() -> None:
    """Every example is complete."""
    shown = unescape(re.sub("<[^>]*>", "", page(document())))
    assert "Publish to: direct exchange dcs.migration, key create" in shown
    assert "topic exchange dcs.migration.events, key migration.failed" in shown
    for message in document()["components"]["messages"].values():
        for example in message["examples"]:
            assert json.dumps(example["payload"], indent=2, ensure_ascii=False) in shown


def test_page_has_no_script_and_no_external_reference() -> None:
    """Text of the document is escaped."""
    harmless, shown = page(document()), page(hostile(copy.deepcopy(document())))
    assert re.findall(r'(?:src|href)="(.)', harmless) == ["#"] * harmless.count("<a ")
    tags = [re.findall(r"<(\w+)", re.sub(r"</?code>", "", html)) for html in (harmless, shown)]
    assert "script" not in tags[1]
    assert set(tags[0]) == set(tags[1]) | {"ul", "li"}

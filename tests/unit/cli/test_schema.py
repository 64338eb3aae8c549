"""`schema`: prints the committed schemas and examples unchanged."""

import json
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

import schemas
from schemas.html_page import page
from worker.cli.app import app
from worker.cli.schema import COMPLETE_DOCUMENTS, EXAMPLES

FOLDER = Path(schemas.__file__).parent


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


def test_names_follow_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker with other names prints a document with these, and with no default."""
    for variable, name in (("QUEUE", "q.orders"), ("REQUEST_EXCHANGE", "x.orders"), ("EVENT_EXCHANGE", "x.outcomes")):
        monkeypatch.setenv(f"WORKER_{variable}", name)
    monkeypatch.setenv("WORKER_AMQP_URL", "amqp://broker/orders%2Fprod")
    content = json.loads(CliRunner().invoke(app, ["schema", "asyncapi"]).output)
    bindings = [channel["bindings"]["amqp"] for channel in content["channels"].values() if "bindings" in channel]
    assert {(one.get("queue") or one["exchange"])["vhost"] for one in bindings} == {"orders/prod"}
    for document in ("asyncapi", "html"):
        printed = CliRunner().invoke(app, ["schema", document]).output
        assert {name for name in ("q.orders.parked", "x.orders", "x.outcomes") if name in printed} == {
            "q.orders.parked",
            "x.orders",
            "x.outcomes",
        }
        assert "dcs.migration.requests" not in printed
        assert "dcs.migration.events" not in printed


def test_page_is_that_of_the_committed_document() -> None:
    """`html` shows the AsyncAPI document."""
    result = CliRunner().invoke(app, ["schema", "html"])

    assert result.exit_code == 0
    assert result.output == page(json.loads((FOLDER / "asyncapi.json").read_text("utf-8")))


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

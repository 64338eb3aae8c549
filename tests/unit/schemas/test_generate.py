"""The JSON Schemas: fresh, well formed, strict with senders and tolerant with readers."""

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from schemas import names
from schemas.asyncapi_messages import PAYLOADS
from schemas.envelope import Envelope
from schemas.generate import DIALECT, FOLDER, HEADERS, LATER_FIELDS, documents, main, render
from tests.malformed_messages import GOOD

ROOT = Path(__file__).parents[3]

# Whatever else is loaded, an upstream service does not have.
IMPORTED = """
import sys
before = set(sys.modules)
import schemas.generate
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*(name for name in loaded - sys.stdlib_module_names if not name.startswith("_")))
"""


def valid(schema: str, content: object) -> bool:
    """Whether `content` passes the JSON Schema of that name."""
    return _validator(schema).is_valid(content)


@cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(documents()[schema])


def test_the_committed_schemas_are_fresh() -> None:
    """The files say what the models say now; if not, run `python -m schemas.generate`."""
    committed = {file.name: file.read_text(encoding="utf-8") for file in FOLDER.iterdir()}
    assert committed == {f"{name}.json": render(schema) for name, schema in documents().items()}


def test_the_command_writes_to_the_given_folder(tmp_path: Path) -> None:
    """Given a folder, the schemas are written there."""
    main([str(tmp_path)])
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in FOLDER.iterdir()}


def test_the_module_is_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m schemas.generate` takes the folder from its arguments."""
    monkeypatch.setattr(sys, "argv", ["generate", str(tmp_path)])
    monkeypatch.delitem(sys.modules, "schemas.generate")
    runpy.run_module("schemas.generate", run_name="__main__")
    assert json.loads((tmp_path / "request.json").read_bytes()) == documents()["request"]


def test_without_arguments_the_committed_files_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No argument means the folder of the committed files."""
    monkeypatch.setattr("schemas.generate.FOLDER", tmp_path)
    main([])
    assert (tmp_path / "envelope.json").is_file()


def test_pydantic_is_all_that_is_needed() -> None:
    """Reading and generating imports pydantic and what that needs, nothing of the worker."""
    command = [sys.executable, "-c", IMPORTED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30, env={})
    assert set(done.stdout.split()) <= {
        "annotated_types",
        "pydantic",
        "pydantic_core",
        "schemas",
        "typing_extensions",
        "typing_inspection",
    }


@pytest.mark.parametrize("name", sorted(documents()))
def test_a_schema_is_well_formed(name: str) -> None:
    """Every schema is one of draft 2020-12, with a title, a description and an id of its own."""
    schema = documents()[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == DIALECT
    assert schema["$id"].endswith(f":{name}:v1")
    assert schema["title"]
    assert schema["description"]


@pytest.mark.parametrize("field", ["request_id", "region", "not_after"])
def test_an_optional_field_may_be_null(field: str) -> None:
    """Most serialisers write null for what is not there; there is no default that suggests a value."""
    schema = documents()["request"]["properties"][field]
    assert schema["type"] == ["string", "null"]
    assert "default" not in schema
    assert valid("request", GOOD | {field: None})
    assert valid("request", {name: value for name, value in GOOD.items() if name != field})


@pytest.mark.parametrize("name", PAYLOADS)
def test_generators_find_names_and_plain_types(name: str) -> None:
    """Every object has a title that is the name of a type, and no type is a choice of schemas or closed for events."""

    def inspect(schema: object) -> None:
        if isinstance(schema, list):
            for member in schema:
                inspect(member)
        if isinstance(schema, dict):
            assert not {"oneOf", "allOf"} & schema.keys()
            # A model or null: the one choice of which generators make the right type, if it has a name.
            # With `"type": ["object", "null"]` instead, what Modelina makes for TypeScript fails to read null.
            if (choice := schema.get("anyOf")) is not None:
                assert (list(choice[0]), choice[1:]) == (["$ref"], [{"type": "null"}])
                assert schema["title"].isidentifier()
            assert "enum" not in schema or name == "journal"
            assert "properties" not in schema or schema["title"].isidentifier()
            for member in schema.values():
                inspect(member)

    inspect(documents()[name])


@pytest.mark.parametrize("name", sorted(documents()))
def test_patterns_are_understood_in_every_language(name: str) -> None:
    r"""Validators in Go and PHP read no pattern with an escape `\u`, those in Ruby none with `\xa0`."""

    def patterns(schema: object) -> Iterator[str]:
        members = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
        if isinstance(schema, dict) and isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        for member in members:
            yield from patterns(member)

    assert [pattern for pattern in patterns(documents()[name]) if re.search(r"\\(u|x[89a-f])", pattern)] == []


@pytest.mark.parametrize("name", PAYLOADS[1:-1])
def test_events_may_grow(name: str) -> None:
    """A reader who holds events to the schema is ready for fields that are added later, but misses none."""
    (file, *_) = (ROOT / "schemas" / "examples" / "event").glob(f"{name.removeprefix('migration_')}_*.json")
    event = json.loads(file.read_bytes())
    assert valid(name, event | {"added_later": 1})
    optional = [field for field in event if valid(name, {key: event[key] for key in event if key != field})]
    assert optional == [field for field in LATER_FIELDS if field in event]


def test_requests_may_not_grow() -> None:
    """A field that the request does not know is refused, at both levels."""
    assert valid("request", GOOD)
    assert not valid("request", GOOD | {"added_later": 1})
    task = documents()["request"]["$defs"]["Task"]
    assert task["additionalProperties"] is False


def test_the_envelope_is_described_whole() -> None:
    """Every state header is described, and the ones that are always there are those of a fresh copy."""
    fresh = Envelope.read({}, redelivered=False, now=0.0).write({})
    assert {header.name for header in HEADERS} >= names.STATE
    assert {header.name for header in HEADERS if header.is_always} == set(fresh)
    assert valid("envelope", fresh)
    assert not valid("envelope", fresh | {names.ATTEMPTS: -1})
    assert not valid("envelope", fresh | {names.LAST_SENT_AT: 5})


def test_an_envelope_with_everything_fits_its_schema() -> None:
    """State at its fullest, beside a header of the sender's own."""
    full = Envelope(3, 2, 4, 1, 1, 0.0, 5.0, is_repeat=True, is_redelivered=True)
    assert valid("envelope", full.write({"x-note": ["kept"]}))


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"error": {}},
        {"error_code": "DCS.4013"},
        {"error_code": "DCS.4013", "message": "x"},
        {"code": [1], "message": "x"},
    ],
)
def test_other_objects_are_no_errors(body: object) -> None:
    """A pair counts only whole, and only as text or number."""
    assert not valid("dcs_error", body)

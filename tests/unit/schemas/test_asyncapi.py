"""The AsyncAPI document: fresh, and true of what the worker sends and reads."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from schemas import event, names
from schemas.asyncapi import FILE, document, main
from schemas.envelope import Envelope
from schemas.generate import documents, render
from worker.rabbit.topology import describe

TOOLS = Path(__file__).parents[3] / "tools" / "asyncapi"
MESSAGES: dict[str, Any] = document()["components"]["messages"]
EXAMPLES = [(name, example) for name, message in MESSAGES.items() for example in message["examples"]]


def validator(path: str) -> Draft202012Validator:
    """Holds values to a schema within the document."""
    registry: Registry[Any] = Registry().with_resource("urn:whole", DRAFT202012.create_resource(document()))
    return Draft202012Validator({"$ref": f"urn:whole#/{path}"}, registry=registry, format_checker=FormatChecker())


def test_the_committed_document_is_fresh(tmp_path: Path) -> None:
    """The file says what models and examples say now; if not, run `python -m schemas.asyncapi`."""
    main([str(tmp_path / "new.json")])
    assert FILE.read_text("utf-8") == (tmp_path / "new.json").read_text("utf-8") == render(document())


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=lambda one: one if isinstance(one, str) else one["name"])
def test_an_example_follows_its_schema(name: str, example: dict[str, Any]) -> None:
    """Every example in the document is valid by the payload of its message."""
    validator(f"components/messages/{name}/payload").validate(example["payload"])


@pytest.mark.parametrize("name", ["request", "migration_succeeded", "migration_failed"])
def test_payloads_are_the_generated_schemas(name: str) -> None:
    """They refuse what the JSON Schemas refuse: a field less, a field of another type."""
    ours, generated = validator(f"components/schemas/{name}"), Draft202012Validator(documents()[name])
    (good, *_) = (
        one["payload"] for message, one in EXAMPLES if MESSAGES[message]["payload"]["$ref"].endswith(f"/{name}")
    )
    for field in good:
        for changed in ({k: v for k, v in good.items() if k != field}, good | {field: 5.5}, good | {"added": 1}):
            assert ours.is_valid(changed) == generated.is_valid(changed), (field, changed)
    assert not ours.is_valid({})


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("migrationSucceeded", event.SUCCEEDED_TYPE),
        ("migrationFailed", event.FAILED_TYPE),
        ("migrationProvisioned", event.PROVISIONED_TYPE),
        ("migrationProvisioningFailed", event.PROVISIONING_FAILED_TYPE),
    ],
)
def test_headers_of_events_are_those_that_are_sent(name: str, type_: str) -> None:
    """With and without a subject; a header less, or another type, is none of them."""
    headers = validator(f"components/messages/{name}/headers")
    sent: dict[str, Any] = dict(event.headers(id_="i", type_=type_, subject="s", time="2026-11-23T09:00:00.000Z"))
    assert set(sent) <= set(MESSAGES[name]["headers"]["properties"])
    assert headers.is_valid(sent | {names.TRACEPARENT: "00-1-2-01"})
    assert headers.is_valid(event.headers(id_="i", type_=type_, subject=None, time="2026-11-23T09:00:00.000Z"))
    assert not headers.is_valid(sent | {"cloudEvents:type": "other"})
    for header in set(sent) - {"cloudEvents:subject"}:
        assert not headers.is_valid({key: value for key, value in sent.items() if key != header})
    assert MESSAGES[name]["bindings"]["amqp"]["messageType"] == type_


def test_headers_of_parked_requests_are_the_envelope() -> None:
    """Whatever a copy carries is described, with the right type."""
    carried = Envelope(3, 2, 4, 1, 1, 0.0, 5.0, is_repeat=True, is_redelivered=True).write({})
    assert set(carried) <= set(MESSAGES["parkedRequest"]["headers"]["properties"])
    assert validator("components/messages/parkedRequest/headers").is_valid(carried)
    assert not validator("components/messages/parkedRequest/headers").is_valid(carried | {names.ATTEMPTS: "3"})


def test_names_are_those_of_the_topology() -> None:
    """Exchanges, their types, and queues are the ones that the worker declares by default; so is the binding."""
    plan = describe(names.REQUEST_QUEUE, names.REQUEST_EXCHANGE, names.EVENT_EXCHANGE, (1.0,))
    bindings = {key: one["bindings"]["amqp"] for key, one in document()["channels"].items() if "bindings" in one}
    exchanges = {(one["exchange"]["name"], one["exchange"]["type"]) for one in bindings.values() if "exchange" in one}
    queues = {one["queue"]["name"] for one in bindings.values() if "queue" in one}

    assert exchanges == {(one.name, one.type) for one in plan.exchanges}
    assert queues == {one.name for one in plan.queues} - {names.retry_queue(names.REQUEST_QUEUE, 1)}
    (binding,) = plan.bindings
    assert binding.key == document()["channels"]["requests"]["address"]


def test_senders_publish_to_the_exchange() -> None:
    """The counterpart of what the worker receives: the exchange and key that a sender has the right to use."""
    receive = document()["operations"]["receiveRequest"]
    assert receive["channel"]["$ref"] == "#/channels/requests"
    assert receive["reply"]["channel"]["$ref"] == "#/channels/replies"
    requests = document()["channels"]["requests"]
    assert requests["bindings"]["amqp"]["exchange"]["name"] == names.REQUEST_EXCHANGE
    assert list(requests["messages"]) == ["request"]


@pytest.mark.parametrize("tools", [TOOLS, TOOLS.parent / "languages"], ids=lambda folder: folder.name)
def test_the_lock_file_names_no_registry(tools: Path) -> None:
    """It works with any mirror, and pins everything by hash."""
    lock = json.loads((tools / "package-lock.json").read_text())
    packages = [one for name, one in lock["packages"].items() if name]
    assert packages
    assert all(one["integrity"].startswith("sha512-") and "resolved" not in one for one in packages)
    assert "omit-lockfile-registry-resolved=true" in (tools / ".npmrc").read_text().split()


def test_go_program_knows_every_event() -> None:
    """`make test-languages`, which needs the network, reads the examples of all events with it."""
    program = (TOOLS.parent / "languages" / "go" / "main.go").read_text()
    assert [key for key in event.KEYS.values() if f'"{key}"' not in program] == []

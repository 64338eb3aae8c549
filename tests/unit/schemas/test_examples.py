"""The committed examples: good ones pass the models and the JSON Schemas, bad ones are refused by both."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from pydantic import BaseModel

from schemas.dcs import CreateReply, ErrorBody, ListReply, TaskDetail, read_create_reply, read_error
from schemas.event import (
    PARKED_REASONS,
    MigrationFailed,
    MigrationProvisioned,
    MigrationProvisioningFailed,
    MigrationSucceeded,
    ProvisioningReason,
    Reason,
)
from schemas.generate import documents
from schemas.identity import marked_description, marker
from schemas.request import InvalidRequestError, parse
from schemas.timestamp import from_text
from tests.malformed_messages import MAX_BYTES

EXAMPLES = Path(__file__).parents[3] / "schemas" / "examples"
VALID = sorted((EXAMPLES / "request" / "valid").glob("*.json"))
EVENTS = sorted((EXAMPLES / "event").glob("*.json"))
EXPECTED: dict[str, Any] = json.loads((EXAMPLES / "request" / "invalid" / "expected.json").read_bytes())

times = FormatChecker(())
times.checks("date-time")(lambda value: not isinstance(value, str) or from_text(value) is not None)


def fits(schema: str, content: object) -> bool:
    """Whether `content` passes the JSON Schema of that name, times included."""
    return _validator(schema).is_valid(content)


@cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(documents()[schema], format_checker=times)


def dcs(name: str) -> bytes:
    """Return the bytes of an example of the DCS API."""
    return (EXAMPLES / "dcs" / name).read_bytes()


@pytest.mark.parametrize("file", VALID, ids=lambda file: file.stem)
def test_a_valid_request_passes_model_and_schema(file: Path) -> None:
    """Every valid example is read, means what it says, and fits the schema."""
    body = file.read_bytes()
    request = parse(body, max_bytes=MAX_BYTES)
    assert request.model_dump(exclude={"not_after"}, exclude_unset=True) == {
        name: value for name, value in json.loads(body).items() if name != "not_after"
    }
    assert fits("request", json.loads(body))


@pytest.mark.parametrize("name", EXPECTED)
def test_an_invalid_request_is_refused_by_model_and_schema(name: str) -> None:
    """Every invalid example is refused with exactly the violations expected of it, and by the schema if it can."""
    expected = EXPECTED[name]
    body = (EXAMPLES / "request" / "invalid" / name).read_bytes()
    with pytest.raises(InvalidRequestError) as caught:
        parse(body, max_bytes=MAX_BYTES)
    assert [violation.model_dump() for violation in caught.value.violations] == expected["violations"]
    assert caught.value.is_addressed is not expected.get("parked", False)
    assert fits("request", json.loads(body)) is expected.get("schema_accepts", False)


def test_every_invalid_request_is_expected() -> None:
    """No invalid example lies about without an expectation."""
    found = {file.name for file in (EXAMPLES / "request" / "invalid").iterdir()}
    assert found == {"expected.json", *EXPECTED}


MODELS: dict[str, type[BaseModel]] = {
    "succeeded": MigrationSucceeded,
    "failed": MigrationFailed,
    "provisioned": MigrationProvisioned,
    "provisioning_failed": MigrationProvisioningFailed,
}


def event_of(file: Path) -> str:
    """The event that the name of an example begins with."""
    return max((name for name in MODELS if file.stem.startswith(f"{name}_")), key=len)


@pytest.mark.parametrize("file", EVENTS, ids=lambda file: file.stem)
def test_an_event_is_what_the_worker_writes(file: Path) -> None:
    """Every event passes model and schema, and the model writes exactly the example."""
    content, name = json.loads(file.read_bytes()), event_of(file)
    assert json.loads(MODELS[name].model_validate_json(file.read_bytes()).model_dump_json()) == content
    assert fits(f"migration_{name}", content)
    others = {other for other in MODELS if fits(f"migration_{other}", content)} - {name}
    assert others == ({"provisioned"} if name == "provisioning_failed" else set())  # it has all fields of the other


def test_there_is_an_event_for_every_ending() -> None:
    """Both resolutions and every reason have an example."""
    endings = {event.get("resolution") or event.get("reason") for event in (json.loads(f.read_bytes()) for f in EVENTS)}
    assert endings == {"created", "adopted", None, *Reason, *ProvisioningReason}


@pytest.mark.parametrize("file", EVENTS, ids=lambda file: file.stem)
def test_an_event_says_truly_whether_it_was_parked(file: Path) -> None:
    """An example is parked if its reason is, and an invalid request only when nothing of it could be read."""
    content = json.loads(file.read_bytes())
    is_parked = content.get("reason") in PARKED_REASONS or file.stem == "failed_invalid_request_unreadable"
    assert content.get("parked", False) is is_parked


@pytest.mark.parametrize("name", ["create_body.json", "create_body_with_marker.json"])
def test_a_create_body_is_a_task(name: str) -> None:
    """What is sent to the create call fits its schema, with the marker and without."""
    assert fits("dcs_create_body", json.loads(dcs(name)))


def test_a_create_body_bears_the_marker() -> None:
    """The example with the marker is the full request's task, marked."""
    request = parse((EXAMPLES / "request" / "valid" / "full.json").read_bytes(), max_bytes=MAX_BYTES)
    assert request.request_id is not None
    description = marked_description(request.task, marker(request.request_id))
    marked = request.task.model_dump() | {"description": description}
    assert json.loads(dcs("create_body_with_marker.json")) == marked
    assert description == f"Creating an online data migration task {marker(request.request_id)}"


@pytest.mark.parametrize(
    ("name", "job_id"),
    [("create_reply.json", None), ("create_reply_with_job_id.json", "8abfa7b27da211df017da3e3a6e9001d")],
)
def test_a_create_reply_names_the_task(name: str, job_id: str | None) -> None:
    """A reply is read with the undocumented job id and without."""
    assert read_create_reply(dcs(name)) == CreateReply(
        instance_id="b21989ec-2889-4b8e-99db-19c073425ec2", job_id=job_id
    )
    assert fits("dcs_create_reply", json.loads(dcs(name)))


@pytest.mark.parametrize("name", ["create_reply_without_id.json", "create_reply_with_null_id.json"])
def test_a_create_reply_without_a_task_is_none(name: str) -> None:
    """A reply that names no task is refused by model and schema."""
    assert read_create_reply(dcs(name)) is None
    assert not fits("dcs_create_reply", json.loads(dcs(name)))


@pytest.mark.parametrize("name", ["error_html.txt", "error_empty.txt"])
def test_no_json_is_no_create_reply(name: str) -> None:
    """A page of a proxy, or nothing, names no task."""
    assert read_create_reply(dcs(name)) is None


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        (
            "list_page.json",
            [
                ("online_migration", "Creating an online data migration task #rq-3e09871bec2a4f75"),
                ("backupfile_import", ""),
            ],
        ),
        ("list_page_without_description.json", [("backupfile_import", None)]),
        ("list_page_empty.json", []),
    ],
)
def test_a_list_page_is_read(name: str, rows: list[tuple[str, str | None]]) -> None:
    """A page of the list is read in its present and its older form; fields we do not use are passed over."""
    page = ListReply.model_validate_json(dcs(name))
    assert [(row.migration_type, row.description) for row in page.migration_tasks] == rows


def test_a_detail_is_read_without_its_passwords() -> None:
    """The detail reply bears passwords in plain text; what is kept of it does not."""
    assert b"password-of-the-source" in dcs("detail.json")
    detail = TaskDetail.model_validate_json(dcs("detail.json"))
    assert detail.tenant_vpc_id == "5e37b3be-950a-48e1-b498-65b63d336481"
    assert detail.created_at == "2019/10/22 14:44:30"
    assert "password" not in repr(detail) + detail.model_dump_json()


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("error_dcs_v2.json", ErrorBody("DCS.4013", "Invalid VPC ID.")),
        (
            "error_gateway.json",
            ErrorBody(
                "APIGW.0308",
                "The throttling threshold has been reached: policy user over ratelimit,limit:5,time:1 second",
                request_id="9a1d5e8e1c6b4f6f8e1a2b3c4d5e6f70",
            ),
        ),
        ("error_dcs_v1.json", ErrorBody("111404022", "This DCS instance does not exist.")),
        ("error_iam.json", ErrorBody("401", "The username or password is wrong.")),
        ("error_capitals.json", ErrorBody("SYS.0500", "Internal error")),
        ("error_code_and_message.json", ErrorBody("DCS.5000", "Internal service error.")),
        ("error_nested.json", ErrorBody("DCS.4049", "The instance is busy.", "try again later")),
        (
            "error_encoded_authorization.json",
            ErrorBody("DCS.3002", "Policy does not allow dcs:migrationTask:create to be performed."),
        ),
    ],
)
def test_an_error_is_read_in_every_shape(name: str, error: ErrorBody) -> None:
    """Code and message are found in every known shape, and every one fits the schema."""
    assert read_error(dcs(name)) == error
    assert fits("dcs_error", json.loads(dcs(name)))


@pytest.mark.parametrize("name", ["error_html.txt", "error_empty.txt"])
def test_an_error_of_no_shape_says_nothing(name: str) -> None:
    """A page of a proxy, or nothing, is an error without code and message."""
    assert read_error(dcs(name)) == ErrorBody()


def test_every_example_of_the_service_is_used() -> None:
    """No example of the DCS API lies about that no test of this file names."""
    source = Path(__file__).read_text(encoding="utf-8")
    assert [file.name for file in (EXAMPLES / "dcs").iterdir() if f'"{file.name}"' not in source] == []

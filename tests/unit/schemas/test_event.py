"""The events: what every consumer relies on."""

import pytest
from pydantic import ValidationError

from schemas import event, names
from schemas.event import PARKED_REASONS, DcsError, MigrationFailed, Reason
from schemas.generate import documents

EPOCH = "1970-01-01T00:00:00.000Z"


def test_reasons_are_the_documented_ones() -> None:
    """Reasons are a contract with consumers, and so is which of them are parked."""
    parked = {"unauthenticated", "forbidden", "not_found", "exhausted", "unresolved", "poison"}
    assert {reason.value for reason in Reason} == parked | {"invalid_request", "conflict", "rejected", "expired"}
    assert {reason.value for reason in PARKED_REASONS} == parked


def test_candidates_are_written_only_where_there_are_some() -> None:
    """An error without candidates has no such field; one with candidates lists them."""
    error = DcsError(status=400, error_code="DCS.4013", error_msg="x")
    assert error.model_dump() == {"status": 400, "error_code": "DCS.4013", "error_msg": "x", "error_ext_msg": None}
    assert DcsError(candidates=("a", "b")).model_dump(mode="json")["candidates"] == ["a", "b"]


@pytest.mark.parametrize("type_", event.KEYS)
def test_an_event_names_its_schema(type_: str) -> None:
    """The CloudEvents attribute `dataschema` is the `$id` of the JSON Schema of the body, which has a version."""
    schema = documents()[event.KEYS[type_].replace(".", "_")]
    named = event.headers(id_="i", type_=type_, subject=None, time=EPOCH)["cloudEvents:dataschema"]
    assert named == schema["$id"]
    assert named.endswith(":v1")


@pytest.mark.parametrize("subject", [None, "r"])
def test_metadata_is_cloud_events_in_binary_mode(subject: str | None) -> None:
    """The attributes are headers with the binding's prefix; without a request id there is no subject."""
    headers = event.headers(id_="i", type_=event.FAILED_TYPE, subject=subject, time="2026-12-01T00:00:00.000Z")
    assert headers == {
        "cloudEvents:specversion": "1.0",
        "cloudEvents:id": "i",
        "cloudEvents:source": "dcs-migration-worker",
        "cloudEvents:type": "dcs.migration.failed.v1",
        "cloudEvents:dataschema": "urn:dcs-migration-worker:schema:migration_failed:v1",
        "cloudEvents:time": "2026-12-01T00:00:00.000Z",
    } | ({} if subject is None else {"cloudEvents:subject": subject})


def test_keys_and_types_are_the_documented_ones() -> None:
    """Consumers bind to these keys and dispatch on these types."""
    assert (event.SUCCEEDED_KEY, event.FAILED_KEY) == ("migration.succeeded", "migration.failed")
    assert {type_: f"dcs.{key}.v1" for type_, key in event.KEYS.items()} == {
        type_: type_ for type_ in event.DATASCHEMAS
    }
    assert event.PROVISIONED_KEY == "migration.provisioned"
    assert event.PROVISIONING_FAILED_KEY == "migration.provisioning_failed"
    assert event.SUCCEEDED_TYPE == "dcs.migration.succeeded.v1"


def test_an_event_does_not_change() -> None:
    """What was decided is not edited afterwards; without a word about it, nothing was called and nothing parked."""
    failed = MigrationFailed(reason=Reason.POISON, message="m", received_at=EPOCH, completed_at=EPOCH)
    assert (failed.attempts, failed.parked, failed.violations) == (0, False, ())
    with pytest.raises(ValidationError, match="frozen"):
        failed.parked = True  # type: ignore[misc]  # that is the point


def test_names_on_the_broker_are_the_documented_ones() -> None:
    """Exchanges, queues and state headers are a contract with senders and operators."""
    assert (names.REQUEST_EXCHANGE, names.REQUEST_KEY) == ("dcs.migration", "create")
    assert names.EVENT_EXCHANGE == "dcs.migration.events"
    assert names.retry_queue(names.REQUEST_QUEUE, 10) == "dcs.migration.requests.retry.10s"
    assert names.parked_queue(names.REQUEST_QUEUE) == "dcs.migration.requests.parked"
    assert names.follow_up_queue(names.REQUEST_QUEUE) == "dcs.migration.requests.follow-up"
    waits = [names.follow_up_queue("q", checks).removeprefix("q.follow-up.") for checks in (0, 1, 2, 3, 4, 5, 100)]
    assert waits == ["10s", "10s", "20s", "30s", "60s", "60s", "60s"]
    assert {
        "x-attempts",
        "x-round",
        "x-deliveries",
        "x-interruptions",
        "x-replays",
        "x-first-received-at",
        "x-may-be-older",
        "x-last-sent-at",
        "x-last-error",
        "x-stage",
        "x-task-id",
        "x-job-id",
    } == names.STATE

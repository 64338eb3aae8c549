"""The senders' side of the schemas: requests as bodies, events as values."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

import schemas
from schemas import identity
from schemas.client import encode, identified, read_event, read_provisioning_event
from schemas.event import (
    MigrationFailed,
    MigrationProvisioningFailed,
    MigrationSucceeded,
    ProvisioningReason,
    Reason,
)
from schemas.generate import documents
from schemas.request import Request, Task, parse

EVENTS = Path(schemas.__file__).parent / "examples" / "event"
TASK = Task(name="one", vpc_id="v", subnet_id="s", security_group_id="g", description="ü")
ORDER = Request(project_id="p", task=TASK)
TIMES = {"received_at": "2026-11-23T09:00:00.000Z", "completed_at": "2026-11-23T09:00:01.000Z"}


def test_what_is_encoded_is_what_a_worker_reads() -> None:
    """A body says what was given, leaves out what was not, and is read back as the same request."""
    whole = Request.model_validate(
        {
            "request_id": "r",
            "project_id": "p",
            "region": "cn-north-4",
            "not_after": "2026-12-01T00:00:00Z",
            "task": TASK,
        }
    )
    for request in (ORDER, whole):
        assert parse(encode(request), max_bytes=1000) == request
    assert b"null" not in encode(ORDER)


def test_a_derived_id_is_the_one_that_a_worker_derives() -> None:
    """Without an id it comes from project, region and task, and the region is named; a request with an id stays."""
    derived, elsewhere = identified(ORDER, "cn-north-4"), ORDER.model_copy(update={"region": "eu-west-101"})
    assert derived.request_id == identity.request_id("p", "cn-north-4", TASK)
    assert derived.region == "cn-north-4"
    assert identified(elsewhere, "cn-north-4").request_id == identity.request_id("p", "eu-west-101", TASK)
    given = ORDER.model_copy(update={"request_id": "mine"})
    assert identified(given, "cn-north-4") == given


def test_a_wrong_request_cannot_be_built() -> None:
    """The models refuse what a worker would refuse."""
    with pytest.raises(ValidationError):
        Request(project_id="../p", task=TASK)


def test_events_are_parsed_by_type() -> None:
    """A success and a failure are read as what they are, also with fields of a later version; nothing else is one."""
    success = MigrationSucceeded(
        request_id="r", project_id="p", region="x", name="n", instance_id="i", resolution="created", attempts=1, **TIMES
    )
    failure = MigrationFailed(request_id="r", reason=Reason.REJECTED, message="no", **TIMES)

    assert read_event(success.model_dump_json().encode()) == success
    assert read_event(failure.model_dump_json().encode()) == failure
    assert read_event(failure.model_dump_json().encode()[:-1] + b', "new": 1}') == failure
    for body in (b"", b"[]", b"{}", b"\xff"):
        with pytest.raises(ValueError, match="validation error"):
            read_event(body)


def test_an_event_of_a_later_version_is_read() -> None:
    """Unknown reasons and resolutions are text, also for the JSON Schemas; known reasons stay what they are."""
    failure = MigrationFailed(request_id="r", reason="frozen_account", message="no", **TIMES)
    success = MigrationSucceeded(
        request_id="r", project_id="p", region="x", name="n", instance_id="i", resolution="cloned", attempts=1, **TIMES
    )
    success = success.model_copy(update={"task_status": "HIBERNATING"})
    for event, schema in ((failure, "migration_failed"), (success, "migration_succeeded")):
        body = event.model_dump_json()
        assert read_event(body.encode()) == event
        assert Draft202012Validator(documents()[schema]).is_valid(event.model_dump(mode="json"))
    read = read_event(
        b'{"reason": "rejected", "message": "no", "received_at": "2026-11-23T09:00:00.000Z",'
        b' "completed_at": "2026-11-23T09:00:01.000Z"}'
    )
    assert isinstance(read, MigrationFailed)
    assert read.reason is Reason.REJECTED


def test_a_follow_up_event_of_a_later_version_is_read() -> None:
    """An unknown reason is text; a known one stays what it is. What `read_event` reads is no such event."""
    body = json.loads((EVENTS / "provisioning_failed_task_gone.json").read_bytes())
    known = read_provisioning_event(json.dumps(body).encode())
    later = read_provisioning_event(json.dumps(body | {"reason": "quota", "task_status": "NEW", "new": 1}).encode())
    assert isinstance(known, MigrationProvisioningFailed)
    assert known.reason is ProvisioningReason.TASK_GONE
    assert isinstance(later, MigrationProvisioningFailed)
    assert (later.reason, later.task_status) == ("quota", "NEW")
    with pytest.raises(ValueError, match="validation error"):
        read_event(json.dumps(body).encode())
    with pytest.raises(ValueError, match="validation error"):
        read_provisioning_event((EVENTS / "succeeded_adopted.json").read_bytes())


@pytest.mark.parametrize("file", sorted(EVENTS.iterdir()), ids=lambda file: file.stem)
def test_every_time_of_every_event_is_a_datetime(file: Path) -> None:
    """With its offset, so that two of them can be subtracted."""
    read = read_provisioning_event if file.stem.startswith("provision") else read_event
    body = json.loads(file.read_bytes())
    event = dict(read(file.read_bytes()))
    times = {name for name in body if name.endswith("_at")}
    assert len(times) == 2
    assert {name: event[name] for name in times} == {name: datetime.fromisoformat(body[name]) for name in times}


def test_times_of_an_event_are_written_with_milliseconds() -> None:
    """In UTC."""
    failure = MigrationFailed(reason=Reason.REJECTED, message="no", **TIMES)
    assert b'"received_at":"2026-11-23T09:00:00.000Z"' in failure.model_dump_json().encode()

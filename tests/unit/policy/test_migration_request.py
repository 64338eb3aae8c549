"""Orders: everything that is derived from a request, once."""

import json

import pytest

from schemas import identity
from schemas.request import InvalidRequestError, Request, parse
from tests.malformed_bodies import TASK
from tests.malformed_messages import GOOD, MAX_BYTES
from worker.policy.migration_request import MigrationRequest, RequestParser, migration


def placed(with_marker: bool = True, **changes: object) -> MigrationRequest:
    """Place the order of a good request with `changes`; a field whose value is None is left out."""
    content = {name: value for name, value in (GOOD | changes).items() if value is not None}
    request: Request = parse(json.dumps(content).encode(), max_bytes=MAX_BYTES)
    return migration(request, default_region="eu-west-101", with_marker=with_marker)


def test_an_order_says_what_the_request_says() -> None:
    """Project, id, region, task and time are the sender's own."""
    found = placed(request_id="a", not_after="1970-01-01T08:00:07+08:00")
    assert (found.key, found.region, found.not_after) == (("0123456789abcdef0123456789abcdef", "a"), "cn-north-4", 7.0)
    assert found.task.model_dump() == TASK
    assert found.has_sender_request_id


def test_the_body_bears_the_marker() -> None:
    """With markers the body is the task as written, with the marker at the end of its description."""
    found = placed(request_id="a")
    assert found.marker == "#rq-ca978112ca1bbdca"
    assert json.loads(found.body) == TASK | {"description": f"{TASK['description']} #rq-ca978112ca1bbdca"}


@pytest.mark.parametrize("description", [{}, {"description": "d"}])
def test_without_markers_the_body_is_what_was_received(description: dict[str, str]) -> None:
    """Without markers nothing is added, nothing is null, and the order of the fields is the documented one."""
    task = {name: value for name, value in TASK.items() if name != "description"} | description
    found = placed(with_marker=False, task=task)
    assert found.marker is None
    assert json.loads(found.body) == task
    assert next(iter(json.loads(found.body))) == "name"


def test_a_request_without_an_id_is_known_by_its_content() -> None:
    """The derived id depends on project, effective region and task, and the order knows that it is derived."""
    found = placed(request_id=None, region=None)
    assert not found.has_sender_request_id
    assert found.region == "eu-west-101"
    assert found.request_id == identity.request_id(found.project_id, "eu-west-101", found.task)
    assert found.marker == identity.marker(found.request_id)
    assert placed(request_id=None, region="eu-west-101").key == found.key
    assert placed(request_id=None).key != found.key


def test_the_fingerprint_is_of_the_task_as_written() -> None:
    """Marker and time limit make no difference to what was ordered; region and task do."""
    fingerprint = placed().fingerprint
    assert placed(with_marker=False, not_after=None, request_id="other").fingerprint == fingerprint
    assert placed(region="cn-north-1").fingerprint != fingerprint
    assert placed(task=TASK | {"vpc_id": "other"}).fingerprint != fingerprint


def test_without_a_limit_there_is_none() -> None:
    """A request that names no `not_after` never expires."""
    assert placed(not_after=None).not_after is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"region": "cn-south-1"}, "region: is not one of the worker's regions (configured: cn-north-4, eu-west-101)"),
        (
            {"region": "CN-North-4"},
            "region: must be the name of a configured region, never an address (configured: cn-north-4, eu-west-101)",
        ),
        (
            {"region": "cn-south-1", "not_after": 5, "task": TASK | {"vpc_id": ""}},
            "not_after: must be an RFC 3339 time with an offset, like 2026-12-01T00:00:00Z; "
            "task.vpc_id: must not be empty; "
            "region: is not one of the worker's regions (configured: cn-north-4, eu-west-101)",
        ),
        ({"project_id": 5}, "project_id: must be a string"),
    ],
)
def test_a_wrong_region_is_told_the_right_ones(changes: dict[str, object], said: str) -> None:
    """Also beside other violations, all at once; the sender is named."""
    parser = RequestParser(MAX_BYTES, {"eu-west-101", "cn-north-4"}, "cn-north-4")
    with pytest.raises(InvalidRequestError) as caught:
        parser.read(json.dumps(GOOD | changes).encode())
    assert str(caught.value) == said
    assert caught.value.is_addressed
    assert caught.value.sender.request_id == "hostile"

"""Reading requests: what a refusal says, and what a sender can build."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.request import VIOLATIONS_LISTED, InvalidRequestError, Request, Sender, Task, Violation, parse
from tests.malformed_bodies import TASK
from tests.malformed_messages import GOOD, MAX_BYTES


def refusal(body: bytes, max_bytes: int = MAX_BYTES) -> InvalidRequestError:
    """Return the error that reading `body` ends with."""
    with pytest.raises(InvalidRequestError) as caught:
        parse(body, max_bytes=max_bytes)
    return caught.value


@pytest.mark.parametrize("field", list(GOOD))
def test_a_refusal_never_echoes_a_value(field: str) -> None:
    """A violation names field and rule, never the value, which may be a secret put in the wrong place."""
    for value in ("s3cret/../", {"s3cret": 1}, ["s3cret"]):
        error = refusal(json.dumps(GOOD | {field: value} if field != "task" else GOOD | {"task": [value]}).encode())
        assert "s3cret" not in str(error).replace("task.s3cret", "")


def test_a_refusal_is_not_endless() -> None:
    """Of a thousand faults twenty are listed, and a long name is cut."""
    error = refusal(json.dumps(GOOD | {f"{number}-{'x' * 100}": 1 for number in range(1000)}).encode(), 10 * MAX_BYTES)
    assert len(error.violations) == VIOLATIONS_LISTED == 20
    assert {len(violation.field) for violation in error.violations} == {64}


def test_a_refusal_says_all_that_is_wrong_in_one_line() -> None:
    """The error's own text joins its violations."""
    assert str(refusal(b'{"project_id": "a/b"}')) == "project_id: must be 1 to 64 of A-Z a-z 0-9 _ -; task: is missing"


WHOLE = Sender("hostile", "0123456789abcdef0123456789abcdef", "cn-north-4", "dcs-migration-thrc")


@pytest.mark.parametrize(
    ("body", "sender", "is_addressed"),
    [
        (json.dumps(GOOD | {"urgent": True}).encode(), WHOLE, True),
        (b'{"request_id": "a b", "project_id": 5, "region": null, "task": {"name": ""}}', Sender(), True),
        (b'{"request_id": "a", "task": "b"}', Sender(request_id="a"), True),
        (b'["request_id"]', Sender(), False),
        (b'{"request_id": "a"', Sender(), False),
    ],
)
def test_the_sender_is_named_as_far_as_it_can_be(body: bytes, sender: Sender, is_addressed: bool) -> None:
    """Identity fields that are well formed by themselves are told, the rest are not."""
    error = refusal(body)
    assert error.sender == sender
    assert error.is_addressed is is_addressed


def test_a_body_of_exactly_the_limit_is_read() -> None:
    """The limit is the largest size allowed."""
    body = json.dumps(GOOD).encode()
    assert parse(body, max_bytes=len(body)).project_id == GOOD["project_id"]
    assert refusal(body, len(body) - 1).violations == (
        Violation(field="body", message=f"is {len(body)} bytes long, more than the {len(body) - 1} allowed"),
    )


@pytest.mark.parametrize(
    ("body", "request_id", "is_addressed"),
    [
        (b'{"request_id": "a"}', "a", True),
        (b'{"request_id": "a"', None, False),
        (b'["request_id", 1]', None, False),
        (b"null              ", None, False),
        (b'{"request_id": "a"}'.ljust(40), "a", True),
        (b'  {"request_id": "a"}'.ljust(41), None, True),
        (b'  ["request_id", "a"]'.ljust(100), None, False),
    ],
)
def test_a_body_that_is_too_large_is_read_for_its_sender(
    body: bytes, request_id: str | None, is_addressed: bool
) -> None:
    """Up to four times the limit the sender is looked for; beyond that only whether an object seems to begin."""
    error = refusal(body, 10)
    assert error.sender == Sender(request_id=request_id)
    assert error.is_addressed is is_addressed


def test_a_sender_can_build_a_request() -> None:
    """A service that imports the models builds a request from values, and what it then sends is read."""
    moment = datetime(2026, 12, 1, tzinfo=UTC)
    request = Request(project_id="a", not_after=moment, task=Task(**TASK))
    body = request.model_dump_json(exclude_none=True).encode()
    assert parse(body, max_bytes=MAX_BYTES) == request
    assert request.not_after == moment


@pytest.mark.parametrize("moment", [datetime(2026, 12, 1), 5, "20261201"])  # noqa: DTZ001 - refused for just that
def test_a_sender_cannot_build_a_vague_time(moment: Any) -> None:
    """A time without an offset, a number or a text of another form is no `not_after`, from Python either."""
    with pytest.raises(ValueError, match="not_after"):
        Request(project_id="a", not_after=moment, task=Task(**TASK))

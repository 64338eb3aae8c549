"""Derived identities: pinned, because a formula that changes makes every known request a new one."""

import hashlib
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import identity
from schemas.event import FAILED_TYPE, SUCCEEDED_TYPE, DcsError, MigrationFailed, Reason
from schemas.request import Task
from tests.malformed_bodies import TASK

PROJECT = "0123456789abcdef0123456789abcdef"
REQUEST = "4f6f2a34-9f0e-4a52-8a39-6f2c3c1d3f10"
WHOLE = Task(**TASK)
BARE = Task(**{name: value for name, value in TASK.items() if name != "description"} | {"name": "迁移任务"})

texts = st.sampled_from(("a", "b", "a\x1f", "1:a"))
fields = {"name": st.sampled_from(("a", "b", "1:a")), "vpc_id": texts, "subnet_id": texts, "security_group_id": texts}
tasks = st.builds(Task, **fields) | st.builds(Task, description=texts, **fields)
contents = st.tuples(st.sampled_from("ab"), tasks)


@pytest.mark.parametrize(
    ("task", "request_id", "fingerprint"),
    [
        (WHOLE, "dd138752-af76-5a5f-ba8a-3e2271d354ac", "acc780774151413e49949760ac68fe59"),
        (BARE, "fe80602b-db4c-5b64-8361-7a9464c287f5", "7519da1dcacee5c29fcdfa875d6e1878"),
    ],
)
def test_content_has_a_pinned_identity(task: Task, request_id: str, fingerprint: str) -> None:
    """Request id and fingerprint of a known task are what they have always been."""
    assert identity.request_id(PROJECT, "cn-north-4", task) == request_id
    assert identity.fingerprint("cn-north-4", task) == fingerprint


@pytest.mark.parametrize(
    ("arguments", "event_id"),
    [
        (("p", "r", SUCCEEDED_TYPE, "i-1"), "88f60949-cf24-5366-a28a-2aecdc97affd"),
        (("p", "r", SUCCEEDED_TYPE, "i-2"), "de060bb6-e7a8-5775-9c6b-c33be764c300"),
        ((None, None, FAILED_TYPE, "invalid_request", None, None, 0, "d"), "6363e6ea-5db4-55ec-a26b-e127eaee70b2"),
    ],
)
def test_an_event_has_a_pinned_id(arguments: tuple[Any, ...], event_id: str) -> None:
    """The id of an event depends on project, request, type and the rest of its meaning, and on nothing else."""
    assert identity.event_id(*arguments) == event_id


texts_or_none = st.none() | st.sampled_from(("", "a", "a\x1f400", "400"))
meanings = st.tuples(
    st.builds(
        MigrationFailed,
        request_id=st.none() | st.sampled_from("rs"),
        project_id=st.none() | st.sampled_from("pq"),
        reason=st.sampled_from(Reason),
        error=st.none() | st.builds(DcsError, status=st.none() | st.sampled_from((400, 403)), error_code=texts_or_none),
        message=st.text(max_size=3),
        attempts=st.integers(0, 9),
        received_at=st.just(datetime(2027, 1, 15, tzinfo=UTC)),
        completed_at=st.datetimes(timezones=st.just(UTC)),
    ),
    st.integers(0, 12),
    st.binary(max_size=1),
)


def what_it_means(failure: MigrationFailed, replays: int, message: bytes) -> tuple[object, ...]:
    """What tells the meaning of one failure from another; what is unknown is the empty text."""
    status, code = (failure.error.status, failure.error.error_code) if failure.error else (None, None)
    texts = (failure.request_id, failure.project_id, code)
    return (failure.reason, status, replays, message, *(text or "" for text in texts))


@given(meanings, meanings)
def test_failures_share_an_id_exactly_if_they_mean_the_same(
    one: tuple[MigrationFailed, int, bytes], other: tuple[MigrationFailed, int, bytes]
) -> None:
    """Times, counters and sentences are no part of the meaning; reason, answer, replays and message are."""
    is_same = what_it_means(*one) == what_it_means(*other)
    assert (identity.failure_id(*one) == identity.failure_id(*other)) is is_same


def test_a_body_without_a_request_id_has_a_pinned_stand_in() -> None:
    """A body stands for itself by its SHA-256."""
    assert identity.body_id(b"") == f"sha256:{hashlib.sha256(b'').hexdigest()}"


@pytest.mark.parametrize("request_id", [REQUEST, "a", "a:b"])
def test_the_marker_is_made_of_the_request_id(request_id: str) -> None:
    """The marker is `#rq-` and the first 16 hex digits of the request id's SHA-256."""
    assert identity.marker(request_id) == f"#rq-{hashlib.sha256(request_id.encode()).hexdigest()[:16]}"


@pytest.mark.parametrize(
    ("task", "description"),
    [(WHOLE, "Creating an online data migration task #rq-3e09871bec2a4f75"), (BARE, "#rq-3e09871bec2a4f75")],
)
def test_the_marker_ends_the_description(task: Task, description: str) -> None:
    """The marker follows the sender's description after one blank, or stands alone."""
    assert identity.marked_description(task, identity.marker(REQUEST)) == description


@given(st.text(max_size=60), st.text(max_size=60), st.integers(0, 9))
def test_the_event_id_is_a_uuid5(project: str, request_id: str, replays: int) -> None:
    """Written out by hand, it is what the standard library makes of the same name."""
    name = "\x1f".join((project, request_id, "type", str(replays)))
    namespace = uuid.UUID("2f1f0a4c-93c3-5f8b-8d55-5f0c7f1f6f22")
    assert identity.event_id(project, request_id, "type", replays) == str(uuid.uuid5(namespace, name))


@given(contents, contents)
def test_different_content_is_a_different_request(one: tuple[str, Task], other: tuple[str, Task]) -> None:
    """Request ids and fingerprints are equal exactly where region and task are, however the texts are cut."""
    is_same = one == other
    assert (identity.request_id(PROJECT, *one) == identity.request_id(PROJECT, *other)) is is_same
    assert (identity.fingerprint(*one) == identity.fingerprint(*other)) is is_same


def test_parts_of_a_task_do_not_run_into_each_other() -> None:
    """Texts that contain the separator, moved from one field to the next, make another fingerprint."""
    one = WHOLE.model_copy(update={"vpc_id": "a\x1f1:b", "subnet_id": "c"})
    other = WHOLE.model_copy(update={"vpc_id": "a", "subnet_id": "b\x1f1:c"})
    assert identity.fingerprint("r", one) != identity.fingerprint("r", other)
    assert identity.request_id(PROJECT, "r", one) != identity.request_id(PROJECT, "r", other)

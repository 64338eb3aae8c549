"""Judgement of created tasks: status words, jobs, refused looks, and the event that ends a watch."""

import json

import pytest

from schemas import event, identity
from schemas.dcs import JobReply
from schemas.event import MigrationProvisioned, MigrationProvisioningFailed, MigrationSucceeded
from tests.pipeline.fakes import BUSY, FORBIDDEN, REJECTED, THROTTLED, TIMEOUT, UNSENT
from tests.pipeline.follow_up.watch_bench import success
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence
from worker.policy.follow_up import LastWord, Verdict, Watch, by_job, by_status, ending, headers, is_answer


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        (("CREATING", "creating", " CREATING ", None, ""), None),
        (("ERROR", "error"), "failed"),
        (("RELEASED", "DELETED"), "gone"),
        (("RUNNING", "FULLMIGRATING", "INCRMIGEATING", "MIGRATING", "TERMINATING", "TERMINATED"), "provisioned"),
        (("MIGRATION_SUCCESS", "MIGRATION_FAILED", "SUCCESS", "FAILED", "A new word"), "provisioned"),
    ],
)
def test_status_words(words: tuple[str | None, ...], verdict: Verdict | None) -> None:
    """Any word but four says that the task was created."""
    assert {by_status(word) for word in words} == {verdict}


@pytest.mark.parametrize(
    ("word", "verdict"),
    [("SUCCESS", "provisioned"), ("FAIL", "failed"), ("RUNNING", None), ("INIT", None), (None, None), ("New", None)],
)
def test_job_words(word: str | None, verdict: Verdict | None) -> None:
    """Only two words are final."""
    assert by_job(JobReply(status=word)) == verdict


UNREADABLE = CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.UNREADABLE)


def test_only_a_refusal_or_an_unreadable_answer_counts_as_answer() -> None:
    """After the deadline it ends the watch; an outage and a throttle never do."""
    assert [is_answer(error) for error in (FORBIDDEN, REJECTED, UNREADABLE)] == [True] * 3
    assert [is_answer(error) for error in (BUSY, UNSENT, TIMEOUT, THROTTLED)] == [False] * 4


@pytest.mark.parametrize("value", [-1, "5", 10**9, None, [1]])
def test_unreadable_count_of_looks_is_zero(value: object) -> None:
    """It is only a number to be shown, and a wait to be chosen."""
    watch = Watch.read(json.dumps(success()).encode(), {"x-round": value})
    assert watch is not None
    assert watch.checks == 0


def test_headers_name_job_only_if_it_is_known() -> None:
    """Beside the stage, the task and the looks so far."""
    read = MigrationSucceeded.model_validate
    assert headers(read(success()), 3) == {
        "x-stage": "follow-up",
        "x-task-id": "i-1",
        "x-job-id": "j-1",
        "x-round": 3,
    }
    assert "x-job-id" not in headers(read(success(job=None)), 0)


@pytest.mark.parametrize(
    ("verdict", "reason"), [("failed", "task_failed"), ("gone", "task_gone"), ("timeout", "timeout")]
)
def test_event_of_a_task_that_is_not_ready(verdict: Verdict, reason: str) -> None:
    """Its id is made of what it means: other looks at other times give the same."""
    watch = Watch.read(json.dumps(success()).encode(), {"x-round": 3})
    assert watch is not None
    early, late = (ending(watch, LastWord(verdict, "ERROR"), watch.succeeded_at + at) for at in (1.0, 2.0))
    meaning = ("p1", "r-i-1", event.PROVISIONING_FAILED_TYPE, "i-1", reason)
    assert early.event_id == late.event_id == identity.event_id(*meaning)
    body = MigrationProvisioningFailed.model_validate_json(late.body)
    assert (body.reason, body.checks, body.task_status) == (reason, 3, "ERROR")
    assert json.loads(body.model_dump_json()) == json.loads(late.body)


def test_event_of_a_task_that_is_ready() -> None:
    """It has no reason; one type, one routing key."""
    watch = Watch.read(json.dumps(success()).encode(), {})
    assert watch is not None
    ready = ending(watch, LastWord("provisioned", "RUNNING", "10.0.0.1"), watch.succeeded_at + 9.0)
    type_ = ready.EVENT_TYPES[ready.succeeded]
    assert (type_, event.KEYS[type_]) == ("dcs.migration.provisioned.v1", "migration.provisioned")
    body = MigrationProvisioned.model_validate_json(ready.body)
    assert json.loads(body.model_dump_json()) == json.loads(ready.body)
    assert watch.key == ("p1", "i-1")

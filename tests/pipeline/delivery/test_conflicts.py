"""Creates that DCS answers with 409: the task may exist already, from an earlier send of the same bytes."""

import pytest

from tests.pipeline.bench import Bench
from tests.pipeline.fakes import NOW, FakeDelivery, task_found
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence, TaskNotFound
from worker.policy.retry_policy import RetryPolicy

EXISTS = CallError(
    *(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.ANSWERED, "Security group rule already exists."),
    http_status=409,
    error_code="SecurityGroupRuleExists",
    error_msg="Security group rule already exists.",
)
LISTING_DELAY_SECONDS = 50.0
"""45 s and the allowance for clocks."""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose creates are answered 409, and whose waits in hand move its clock."""
    bench = Bench(RetryPolicy(reconcile="always"), create=[EXISTS])

    async def pause(seconds: float) -> bool:
        await bench._sleep(seconds)
        return True

    monkeypatch.setattr(bench.throttle, "pause", pause)
    return bench


async def test_task_that_is_found_at_once_is_adopted(bench: Bench) -> None:
    """Look, create, look: no listing delay if the task is listed."""
    bench.dcs.finds = [TaskNotFound(), task_found()]
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["find", "create", "find"]
    assert bench.observer.outcomes == [("succeeded", "adopted")]
    assert bench.now - NOW < 1.0


async def test_task_that_is_listed_late_is_adopted(bench: Bench) -> None:
    """The second look-up begins after the listing delay."""
    bench.dcs.finds = [TaskNotFound(), TaskNotFound(), task_found()]
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["find", "create", "find", "find"]
    assert bench.observer.outcomes == [("succeeded", "adopted")]
    assert bench.now - NOW == LISTING_DELAY_SECONDS


async def test_request_without_a_task_is_rejected_and_never_created_again(bench: Bench) -> None:
    """With the words of DCS; it is not parked, since another create would be answered alike."""
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["find", "create", "find", "find"]
    assert bench.observer.outcomes == [("failed", "rejected")]
    (event,) = bench.publisher.events
    assert (event["parked"], event["attempts"]) == (False, 1)
    assert "already exists" in event["message"]
    assert event["error"]["status"] == 409

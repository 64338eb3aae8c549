"""Creates that DCS answers with 409: the task may exist already, from an earlier send of the same bytes."""

from collections.abc import Mapping

import pytest

from schemas import names
from schemas.envelope import Envelope
from schemas.last_error import LastError
from tests.pipeline.bench import Bench
from tests.pipeline.fakes import NOW, FakeClaims, FakeDelivery, task_found
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence, TaskCreated, TaskNotFound
from worker.policy.outcome import Granted
from worker.policy.retry_policy import RetryPolicy

EXISTS = CallError(
    *(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.ANSWERED, "Security group rule already exists."),
    http_status=409,
    error_code="SecurityGroupRuleExists",
    error_msg="Security group rule already exists.",
)
UNAVAILABLE = CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.ANSWERED, "unavailable", http_status=503)
LISTING_DELAY_SECONDS = 50.0
"""45 s and the allowance for clocks."""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose creates are answered 409, and whose waits in hand move its clock."""
    bench = Bench(RetryPolicy(reconcile="always"), create=[EXISTS])

    async def wait(seconds: float) -> bool:
        await bench._sleep(seconds)
        return True

    monkeypatch.setattr(bench.throttle, "wait_unless_closed", wait)
    return bench


async def test_task_that_is_found_at_once_is_adopted(bench: Bench) -> None:
    """Look, create, look: no listing delay if the task is listed."""
    bench.dcs.finds = [TaskNotFound(), task_found()]
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["find", "create", "find"]
    assert bench.observer.outcomes == [("succeeded", "adopted")]
    assert bench.now - NOW < 1.0


async def waited(bench: Bench) -> FakeDelivery:
    """Deliver a request that meets the 409; the delivery of the copy that comes back from its retry queue."""
    await bench.deliver(FakeDelivery())
    (copy,) = bench.publisher.published
    assert (copy.what, copy.retry_level, copy.headers[names.ROUND]) == ("retry", 2, 0)
    assert bench.dcs.calls == ["find", "create", "find"]
    bench.now += 60.0
    return FakeDelivery(headers=copy.headers)


async def test_task_that_is_listed_late_is_adopted(bench: Bench) -> None:
    """The request waits in the broker, at no cost, for the look-up after the listing delay."""
    bench.dcs.finds = [TaskNotFound(), TaskNotFound(), task_found()]
    await bench.deliver(await waited(bench))
    assert bench.dcs.calls == ["find", "create", "find", "find"]
    assert bench.observer.outcomes[-1] == ("succeeded", "adopted")


async def test_request_without_a_task_is_rejected_and_never_created_again(bench: Bench) -> None:
    """With the words of DCS; it is not parked, since another create would be answered alike."""
    await bench.deliver(await waited(bench))
    assert bench.dcs.calls == ["find", "create", "find", "find"]
    assert bench.observer.outcomes[-1] == ("failed", "rejected")
    (event,) = bench.publisher.events
    assert (event["parked"], event["attempts"]) == (False, 1)
    assert "already exists" in event["message"]
    assert event["error"]["status"] == 409


async def test_other_replica_never_creates_again() -> None:
    """The copy carries the conflict to a process that knows nothing else, also through a hand-back."""
    one, other = Bench(RetryPolicy(), create=[EXISTS]), Bench(RetryPolicy())
    one.dcs.finds = [TaskNotFound(), UNAVAILABLE]
    one.dcs.creates = [EXISTS]
    copy = await _copy_of(one, FakeDelivery())
    other.now = one.now + LISTING_DELAY_SECONDS + 1
    await other.deliver(FakeDelivery(headers=copy))
    assert other.dcs.calls == ["find"]
    assert other.observer.outcomes == [("failed", "rejected")]


async def _copy_of(bench: Bench, delivery: FakeDelivery) -> Mapping[str, object]:
    """Headers of the copy that a replica makes of a request, after one that handed it back."""
    await bench.deliver(delivery)
    (copy,) = bench.publisher.published
    draining = Bench(RetryPolicy())
    draining.now = bench.now
    draining.throttle.close()
    await draining.deliver(FakeDelivery(headers=copy.headers))
    (handed_back,) = draining.publisher.published
    assert handed_back.what == "hand_back"
    return handed_back.headers


async def test_look_up_that_fails_forgets_no_conflict() -> None:
    """The last error is that of the look-up, but the request is parked and replayed with the 409."""
    bench = Bench(RetryPolicy(delays=(60.0,), tries=1), create=[EXISTS], find=[TaskNotFound(), UNAVAILABLE])
    await bench.deliver(FakeDelivery())
    await bench.deliver(FakeDelivery(headers=bench.publisher.published[-1].headers))
    assert bench.observer.outcomes[-1] == ("failed", "unresolved")
    (parked,) = [published for published in bench.publisher.published if published.what == "park"]
    assert Envelope.read(parked.headers, redelivered=False, now=bench.now).conflict is not None
    assert bench.dcs.calls.count("create") == 1


async def test_copy_of_the_sender_is_not_created_while_the_conflict_is_open(bench: Bench) -> None:
    """The same replica knows of it, and so does the copy of the copy."""
    await waited(bench)
    bench.now = NOW + 1.0
    await bench.deliver(FakeDelivery(message_id="m-2", exchange="dcs.migration"))
    copy = bench.publisher.published[-1]
    bench.now = NOW + 2 * LISTING_DELAY_SECONDS
    await bench.deliver(FakeDelivery(headers=copy.headers))
    assert bench.dcs.calls.count("create") == 1
    assert bench.observer.outcomes[-1] == ("failed", "rejected")


async def test_message_after_the_rejection_elsewhere_is_worked_on_anew(bench: Bench) -> None:
    """Another replica rejected the request: what this one knows of the conflict counts no longer."""
    await waited(bench)
    bench.dcs.creates = [TaskCreated("i-1")]
    await bench.deliver(FakeDelivery(message_id="m-2", exchange="dcs.migration"))
    assert bench.observer.outcomes[-1] == ("succeeded", "created")


async def test_claim_is_released_with_the_conflict_and_granted_with_it() -> None:
    """Other replicas learn of it from the claims."""
    claims = FakeClaims()
    bench = Bench(RetryPolicy(), create=[EXISTS], claims=claims)
    await bench.deliver(FakeDelivery())
    (_, conflict) = claims.recorded[-1]
    assert isinstance(conflict, LastError)
    granted = Granted(is_first=False, last_sent_at=bench.now, last_error=conflict)
    other = Bench(RetryPolicy(), claims=FakeClaims(granted))
    other.now = bench.now + LISTING_DELAY_SECONDS + 1
    await other.deliver(FakeDelivery(message_id="m-2", exchange="dcs.migration"))
    assert other.dcs.calls == ["find"]
    assert other.observer.outcomes == [("failed", "rejected")]

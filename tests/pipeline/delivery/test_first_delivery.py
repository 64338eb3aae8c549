"""First deliveries: a request in, a task created, an event out, an acknowledgement."""

import asyncio
import gzip
import json
from typing import Any

import pytest

from schemas import names
from schemas.envelope import Envelope
from tests.pipeline.bench import Bench
from tests.pipeline.fakes import (
    BUSY,
    FORBIDDEN,
    FULL,
    NOW,
    REJECTED,
    REQUEST,
    THROTTLED,
    TIMEOUT,
    UNSENT,
    FakeClaims,
    FakeDelivery,
    copy_headers,
    request,
    several_tasks,
    task_found,
)
from worker.policy.call_result import CallError, ConflictingTask, TaskCreated, TaskFound, TaskNotFound
from worker.policy.outcome import Unavailable
from worker.policy.retry_policy import RetryPolicy


def slow_down(delivery: FakeDelivery, bench: Bench, seconds: float) -> None:
    """Let the question before each call, whether the delivery is still ours, take so long."""
    is_still_ours = delivery.is_still_ours

    async def slowly() -> bool:
        bench.now += seconds
        return await is_still_ours()

    delivery.is_still_ours = slowly  # type: ignore[method-assign]


async def test_valid_request_is_created_reported_and_acknowledged() -> None:
    """One create, one event as the contract has it, then the acknowledgement."""
    bench = Bench()
    delivery = FakeDelivery(headers={"traceparent": "00-a-b-01"}, reply_to="answers")
    await bench.deliver(delivery)
    assert bench.dcs.calls == ["create"]
    (event,) = bench.publisher.published
    assert event.body == {
        "request_id": "r-1",
        "project_id": "p1",
        "region": "cn-north-4",
        "name": "t",
        "instance_id": "i-1",
        "job_id": "j-1",
        "resolution": "created",
        "task_status": None,
        "attempts": 1,
        "dcs_request_id": "d-1",
        "received_at": "2027-01-15T08:00:00.000Z",
        "completed_at": "2027-01-15T08:00:00.000Z",
    }
    assert (event.correlation_id, event.reply_to) == ("r-1", "answers")
    assert event.headers == {"traceparent": "00-a-b-01"}
    assert delivery.done == ["ack"]
    assert bench.observer.outcomes == [("succeeded", "created")]
    assert bench.created == [("r-1", "i-1")]


@pytest.mark.parametrize("word", ["ERROR", "RELEASED", "DELETED", "A new word", None])
async def test_task_in_any_status_is_adopted_with_its_word(word: str | None) -> None:
    """It was created, whatever became of it: no second one. This replica created none."""
    bench = Bench(RetryPolicy(), find=[TaskFound("i-9", "d-9", word)])
    await bench.deliver(FakeDelivery())
    (event,) = bench.publisher.events
    assert (event["instance_id"], event["resolution"], event["task_status"]) == ("i-9", "adopted", word)
    assert (bench.dcs.calls, bench.created) == (["find"], [])


@pytest.mark.parametrize(
    ("correlation_id", "request_id", "expected"),
    [("c-1", "r-1", "c-1"), (None, "r-1", "r-1"), (None, None, "m-1")],
)
@pytest.mark.parametrize("region", ["cn-north-4", "mars"], ids=["valid", "invalid"])
async def test_the_event_carries_the_senders_correlation(
    correlation_id: str | None, request_id: str | None, expected: str, region: str
) -> None:
    """Its own correlation id, else the request id in its body, else its message id."""
    bench = Bench()
    body = request(request_id=request_id, region=region)
    await bench.deliver(FakeDelivery(body, correlation_id=correlation_id))
    (event,) = bench.publisher.published
    assert event.correlation_id == expected
    assert region == "cn-north-4" or event.body["request_id"] == request_id


async def test_without_marker_the_body_goes_out_as_it_came() -> None:
    """WORKER_MARKER=false keeps the description; otherwise the marker is appended to it."""
    plain, marked = Bench(with_marker=False), Bench()
    for bench in (plain, marked):
        await bench.deliver(FakeDelivery())
    assert b'"description":"d"' in plain.dcs.created[0].body
    assert b'"description":"d #rq-' in marked.dcs.created[0].body


@pytest.mark.parametrize("fault", [BUSY, UNSENT])
async def test_error_that_proves_no_create_is_retried_in_process(fault: CallError) -> None:
    """Retries follow after short waits, without a look-up; the attempts are counted."""
    bench = Bench(create=[fault, fault, TaskCreated("i-1")])
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["create"] * 3
    assert bench.publisher.events[0]["attempts"] == 3


async def test_exhausted_tries_postpone_to_first_retry_level() -> None:
    """The copy has the number of attempts, and goes to the first retry level."""
    bench = Bench(create=[BUSY])
    delivery = FakeDelivery(headers={"mine": 1, "x-death": [{"count": 1}]})
    await bench.deliver(delivery)
    (copy,) = bench.publisher.published
    assert (copy.what, copy.retry_level) == ("retry", 1)
    assert {name: value for name, value in copy.headers.items() if name != names.JOURNAL} == {
        "mine": 1,
        "x-attempts": 3,
        "x-round": 1,
        "x-deliveries": 1,
        "x-interruptions": 0,
        "x-first-received-at": "2027-01-15T08:00:00.000Z",
    }
    assert delivery.done == ["ack"]
    assert bench.observer.outcomes == [("retried", "400")]


async def test_throttled_request_waits_retry_after_without_using_retry_level() -> None:
    """Retry-After 30 s: the first retry level of that length, round unchanged."""
    bench = Bench(create=[THROTTLED])
    await bench.deliver(FakeDelivery())
    (copy,) = bench.publisher.published
    assert (copy.retry_level, copy.headers["x-round"]) == (2, 0)


async def test_capacity_error_postpones_to_longest_delay() -> None:
    """Capacity errors are not retried in the process, and use the longest delay."""
    bench = Bench(create=[FULL])
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["create"]
    assert (bench.publisher.published[0].retry_level, bench.publisher.published[0].headers["x-round"]) == (4, 1)


@pytest.mark.parametrize(("fault", "reason", "parked"), [(REJECTED, "rejected", False), (FORBIDDEN, "forbidden", True)])
async def test_final_rejection_fails_request_at_once(fault: CallError, reason: str, parked: bool) -> None:
    """One call, one failed event with the error of DCS; parked if an operator must act."""
    bench = Bench(create=[fault])
    delivery = FakeDelivery()
    await bench.deliver(delivery)
    assert bench.dcs.calls == ["create"]
    (event,) = bench.publisher.events
    assert (event["reason"], event["parked"], event["attempts"]) == (reason, parked, 1)
    assert event["error"]["status"] == fault.http_status
    assert [copy.what for copy in bench.publisher.published] == (["park", "event"] if parked else ["event"])
    assert delivery.done == ["ack"]


async def test_ambiguous_create_is_looked_up_and_adopted() -> None:
    """A create whose answer was lost is found and not repeated."""
    bench = Bench(create=[TIMEOUT], find=[task_found()])
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["create", "find"]
    (event,) = bench.publisher.events
    assert (event["instance_id"], event["resolution"], event["attempts"]) == ("i-9", "adopted", 1)


async def test_ambiguous_create_without_task_waits_for_listing_delay() -> None:
    """No create is repeated before the listing delay; the copy has the time of the last create."""
    bench = Bench(create=[TIMEOUT], find=[TaskNotFound()])
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["create", "find"]
    (copy,) = bench.publisher.published
    assert (copy.what, copy.retry_level, copy.headers["x-round"]) == ("retry", 2, 1)
    assert copy.headers["x-last-sent-at"] == "2027-01-15T08:00:00.000Z"


async def test_single_try_postpones_lookup() -> None:
    """WORKER_TRIES=1: an ambiguous create goes to a retry level as long as the listing delay, without a look-up."""
    bench = Bench(RetryPolicy(reconcile="ambiguous", tries=1), create=[TIMEOUT])
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["create"]
    assert bench.publisher.published[0].retry_level == 2


async def test_several_tasks_are_unresolved_and_named_in_event() -> None:
    """Two tasks with the marker: unresolved, parked, both ids in the event."""
    bench = Bench(create=[TIMEOUT], find=[several_tasks("a", "b")])
    await bench.deliver(FakeDelivery())
    (event,) = bench.publisher.events
    assert (event["reason"], event["error"]["candidates"]) == ("unresolved", ["a", "b"])


async def test_task_of_another_request_with_our_id_is_a_conflict() -> None:
    """Nothing is created, and the failure is not remembered as the outcome of the request that the id belongs to."""
    bench = Bench(RetryPolicy(reconcile="always"), find=[ConflictingTask(("a",)), TaskNotFound()])
    await bench.deliver(FakeDelivery(), FakeDelivery())
    assert bench.dcs.calls == ["find", "find", "create"]
    first, second = bench.publisher.events
    assert first["reason"] == "conflict"
    assert (first["parked"], second["resolution"]) == (False, "created")


async def test_more_is_looked_through_only_when_a_create_may_have_been_sent() -> None:
    """The look before a first create is one call; after an ambiguous one the service's form of the name may matter."""
    bench = Bench(RetryPolicy(reconcile="always"), create=[BUSY, TIMEOUT], find=[TaskNotFound()])
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["find", "create", "create", "find"]
    assert bench.dcs.may_exist == [False, True]
    assert bench.dcs.was_sent == [False, True]


async def test_after_two_lookups_that_were_too_old_for_their_create_the_request_waits_at_no_cost() -> None:
    """The absence of a task is believed for five seconds; each look-up is older when its create could be sent."""
    bench, delivery = Bench(RetryPolicy()), FakeDelivery()
    slow_down(delivery, bench, 3.0)
    await bench.deliver(delivery)
    assert (bench.dcs.calls, bench.observer.outcomes) == (["find", "find"], [("retried", "look")])
    assert bench.publisher.published[0].headers["x-round"] == 0


async def test_lookup_has_one_deadline_in_all() -> None:
    """However many calls it makes; a look-up that takes longer has failed, and proves nothing."""
    bench = Bench(RetryPolicy(lookup_timeout=0.01, tries=1), find=[asyncio.Event()])
    await asyncio.wait_for(bench.deliver(FakeDelivery()), 5)
    assert (bench.dcs.calls, bench.observer.outcomes) == (["find"], [("retried", "timeout")])


@pytest.mark.parametrize(
    ("delivery", "was_sent"),
    [
        (FakeDelivery(), False),
        (FakeDelivery(redelivered=True), False),  # whether its worker died before or after the create is not known
        (FakeDelivery(headers=copy_headers(), exchange=""), False),  # refused
        (FakeDelivery(headers=copy_headers(last_sent_at=NOW - 100), exchange=""), True),  # the answer was lost
        (FakeDelivery(headers=copy_headers(last_sent_at=NOW - 100, interruptions=1), exchange=""), False),
        (FakeDelivery(headers=copy_headers(last_sent_at=NOW - 100), exchange="dcs.migration"), False),  # a sender's
    ],
)
async def test_a_task_without_its_marker_counts_only_after_a_create_with_an_unknown_result(
    delivery: FakeDelivery, was_sent: bool
) -> None:
    """Else it may be that of another request for the same task."""
    bench = Bench(RetryPolicy(reconcile="always"), find=[TaskNotFound()])
    await bench.deliver(delivery)
    assert bench.dcs.was_sent[0] is was_sent


async def test_forbidden_lookup_is_unresolved() -> None:
    """Without the permission to list it is unknown whether a task exists."""
    bench = Bench(create=[TIMEOUT], find=[FORBIDDEN])
    await bench.deliver(FakeDelivery())
    assert bench.publisher.events[0]["reason"] == "unresolved"


@pytest.mark.parametrize(
    ("delivery", "reason"),
    [
        (FakeDelivery(), "forbidden"),
        (FakeDelivery(headers=copy_headers(1)), "forbidden"),
        (FakeDelivery(headers=copy_headers(1, last_sent_at=NOW - 100)), "unresolved"),
        (FakeDelivery(headers=copy_headers(1, last_sent_at=NOW - 100), exchange="dcs.migration"), "forbidden"),
        (FakeDelivery(redelivered=True), "unresolved"),
    ],
    ids=["first", "has only waited", "may have been sent", "by a sender's word", "interrupted"],
)
async def test_forbidden_lookup_is_unresolved_only_if_create_may_have_been_sent(
    delivery: FakeDelivery, reason: str
) -> None:
    """Else it fails for the reason of the refusal."""
    bench = Bench(RetryPolicy(), find=[FORBIDDEN])
    await bench.deliver(delivery)
    (event,) = bench.publisher.events
    assert (event["reason"], event["parked"], bench.dcs.calls) == (reason, True, ["find"])


@pytest.mark.parametrize("is_redis_away", [False, True], ids=["has only waited", "Redis is away"])
async def test_advice_for_forbidden_lookup_is_not_the_present_setting(is_redis_away: bool) -> None:
    """WORKER_RECONCILE=ambiguous looks too: for a delivery that is not the first, and while Redis is away."""
    claims = FakeClaims(Unavailable()) if is_redis_away else None
    bench = Bench(find=[FORBIDDEN], claims=claims)
    await bench.deliver(FakeDelivery(headers={} if is_redis_away else copy_headers(1)))
    (event,) = bench.publisher.events
    assert event["reason"] == "forbidden"
    assert event["message"].endswith("grant the right dcs:migrationTask:list")


async def test_request_that_waited_here_is_not_unresolved() -> None:
    """This replica knows that no create was sent before either."""
    bench = Bench(RetryPolicy(tries=1), find=[BUSY, FORBIDDEN])
    await bench.deliver(FakeDelivery())
    (copy,) = bench.publisher.published
    await bench.deliver(FakeDelivery(headers=copy.headers))
    assert [event["reason"] for event in bench.publisher.events] == ["forbidden"]


async def test_failed_lookups_without_a_create_end_as_exhausted() -> None:
    """It is certain that no task exists."""
    bench = Bench(RetryPolicy(tries=1), find=[BUSY])
    await bench.deliver(FakeDelivery(headers=copy_headers(4)))
    (event,) = bench.publisher.events
    assert (event["reason"], event["error"]["error_code"]) == ("exhausted", "DCS.4026")


async def test_failed_lookups_use_retry_levels_then_unresolved() -> None:
    """A failed look-up uses a retry level; after the last one the request is unresolved."""
    bench = Bench(create=[TIMEOUT], find=[BUSY])
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["create", "find", "find"]
    assert bench.publisher.published[0].headers["x-round"] == 1
    last = FakeDelivery(headers=copy_headers(4, last_sent_at=NOW - 100))
    await bench.deliver(last)
    assert bench.publisher.events[0]["reason"] == "unresolved"


async def test_ambiguous_create_is_unresolved_with_reconcile_off() -> None:
    """WORKER_RECONCILE=off: no look-up is ever made."""
    bench = Bench(RetryPolicy(reconcile="off"), create=[TIMEOUT])
    await bench.deliver(FakeDelivery())
    await bench.deliver(FakeDelivery(request(request_id="r-2"), redelivered=True))
    assert bench.dcs.calls == ["create"]
    assert [event["reason"] for event in bench.publisher.events] == ["unresolved", "unresolved"]


async def test_first_delivery_is_looked_up_with_reconcile_always() -> None:
    """WORKER_RECONCILE=always: one look-up before every create."""
    bench = Bench(RetryPolicy(reconcile="always"))
    await bench.deliver(FakeDelivery())
    assert bench.dcs.calls == ["find", "create"]


async def test_first_delivery_past_not_after_makes_no_call() -> None:
    """A first delivery that arrives too late makes no call."""
    bench = Bench()
    await bench.deliver(FakeDelivery(request(not_after="2026-01-01T00:00:00Z")))
    assert bench.dcs.calls == []
    (event,) = bench.publisher.events
    assert (event["reason"], event["parked"], event["error"]) == ("expired", False, None)


async def test_repeat_past_not_after_is_looked_up() -> None:
    """A task that exists is adopted; otherwise the request expires after the listing delay."""
    late = request(not_after="2026-01-01T00:00:00Z")
    for find, age, expected in (([task_found()], 0.0, "adopted"), ([TaskNotFound()], 100.0, "expired")):
        bench = Bench(find=find)
        await bench.deliver(FakeDelivery(late, headers=copy_headers(1, last_sent_at=NOW - age)))
        assert bench.dcs.calls == ["find"]
        assert bench.observer.outcomes[0][1] == expected
    bench = Bench(find=[TaskNotFound()])
    await bench.deliver(FakeDelivery(late, headers=copy_headers(1, last_sent_at=NOW)))
    assert bench.observer.outcomes == [("retried", "settle")]


async def test_request_that_expires_while_waiting_is_not_sent() -> None:
    """`not_after` is checked again when the call could start."""
    bench = Bench()
    delivery = FakeDelivery(request(not_after="2027-01-15T08:00:01Z"))
    slow_down(delivery, bench, 2.0)
    await bench.deliver(delivery)
    assert bench.dcs.calls == []
    assert bench.publisher.events[0]["reason"] == "expired"


async def test_description_leaves_room_for_the_marker() -> None:
    """With the marker it may have 1,003 characters, without it 1,024, which is what the service takes."""
    for is_marked, limit in ((True, 1003), (False, 1024)):
        bench = Bench(with_marker=is_marked)
        for length in (limit, limit + 1):
            task = REQUEST["task"] | {"description": "x" * length, "name": f"n{length}"}
            await bench.deliver(FakeDelivery(request(request_id=f"r{length}", task=task)))
        (created,) = bench.dcs.created
        assert len(json.loads(created.body)["description"]) == 1024
        (violation,) = bench.publisher.published[-1].body["violations"]
        assert violation["field"] == "task.description"
        assert f"at most {limit:,} characters" in violation["message"]


async def test_compressed_body_is_named_to_its_sender() -> None:
    """`content_encoding` says what the body is where the bytes do not; the answer is not parked if it has a sender."""
    bench = Bench()
    await bench.deliver(FakeDelivery(gzip.compress(request()), content_encoding="gzip", correlation_id="c"))
    await bench.deliver(FakeDelivery(b"\x0b\x02\x80", content_encoding="br"))
    (readable, unreadable) = [event.body for event in bench.publisher.published if event.what == "event"]
    assert readable["violations"][0]["message"] == "is compressed (gzip): send JSON in UTF-8, not compressed"
    assert (readable["request_id"], readable["parked"]) == ("r-1", False)
    assert unreadable["violations"][0]["message"].startswith("is compressed (br)")
    assert (unreadable["request_id"], unreadable["parked"]) == (None, True)


FORGED = copy_headers(4, last_sent_at=NOW, interruptions=100) | {names.REPLAYS: 1_000_000, names.JOURNAL: "forged"}


@pytest.mark.parametrize("exchange", ["dcs.migration", "an exchange that is bound to it"])
async def test_state_of_a_sender_changes_nothing_but_that_it_is_looked_up(exchange: str) -> None:
    """No poison, no wait, no used-up schedule, no age: one look, one create, the event of a first delivery."""
    bench = Bench()
    await bench.deliver(FakeDelivery(headers=FORGED, exchange=exchange))
    assert bench.dcs.calls == ["find", "create"]
    (event,) = bench.publisher.events
    assert (event["attempts"], event["received_at"]) == (1, "2027-01-15T08:00:00.000Z")
    assert bench.consumer.recorded == []


@pytest.mark.parametrize(
    ("script", "not_after"),
    [
        ({}, None),
        ({}, "2020-01-01T00:00:00Z"),  # it has expired: nothing is looked for
        ({"find": [FORBIDDEN]}, None),
        ({"find": [BUSY]}, None),
        ({"find": [several_tasks("i-1", "i-2")]}, None),
        ({"find": [ConflictingTask(("i-1",))]}, None),
        ({"create": [BUSY]}, None),
        ({"create": [REJECTED]}, None),
        ({"create": [TIMEOUT]}, None),
    ],
)
async def test_state_of_a_sender_changes_neither_outcome_nor_copy(
    script: dict[str, Any], not_after: str | None
) -> None:
    """Where every request is looked up, all is as it is without these headers, the age of the task included."""
    seen: list[object] = []
    for headers in ({}, FORGED):
        bench = Bench(RetryPolicy(), **script)
        await bench.deliver(FakeDelivery(request(not_after=not_after), headers, exchange="dcs.migration"))
        seen.append((bench.publisher.published, bench.dcs.calls, bench.dcs.since, bench.observer.outcomes, bench.slept))
    assert seen[0] == seen[1]


async def test_copy_of_a_senders_message_carries_no_state_of_his() -> None:
    """The copy starts a schedule of its own."""
    bench = Bench(create=[BUSY])
    await bench.deliver(FakeDelivery(headers=FORGED | {names.EXPIRATION: "1"}, exchange="dcs.migration"))
    (copy,) = bench.publisher.published
    read = Envelope.read(copy.headers, redelivered=False, now=NOW)
    assert (copy.retry_level, read.round, read.replays, read.interruptions) == (1, 1, 0, 0)
    assert names.EXPIRATION not in copy.headers

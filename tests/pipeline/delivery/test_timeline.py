"""Timeline of a request: recorded while it is processed, and carried by every message of the worker."""

import pytest

from schemas import names
from schemas.envelope import Envelope
from schemas.journal import EMPTY, LIMIT, Journal, Kind
from tests.pipeline.bench import Bench
from tests.pipeline.fakes import (
    BUSY,
    FORBIDDEN,
    NOW,
    REJECTED,
    TIMEOUT,
    FakeClaims,
    FakeDelivery,
    Published,
    task_found,
)
from worker.policy.call_result import TaskCreated, TaskNotFound
from worker.policy.outcome import ClaimedElsewhere
from worker.policy.retry_policy import RetryPolicy


def timeline(published: Published) -> list[tuple[object, ...]]:
    """Timeline of a message: kind, result, number and evidence of each entry."""
    journal = Journal.read(published.journal or published.headers.get(names.JOURNAL))
    assert journal is not None
    return [(entry.did.value, entry.got, entry.n, entry.evidence) for entry in journal.entries]


async def follow(bench: Bench, deliveries: int = 20) -> list[Published]:
    """Deliver a request and every copy of it, once the copy has waited, until it has its event."""
    delivery = FakeDelivery()
    for _ in range(deliveries):
        await bench.deliver(delivery)
        last = bench.publisher.published[-1]
        if last.what == "event":
            break
        bench.now += RetryPolicy().delays[last.retry_level - 1]
        delivery = FakeDelivery(headers=last.headers)
    return bench.publisher.published


async def test_an_immediate_success_has_no_timeline() -> None:
    """A first delivery with one successful create: the event is complete, and has no timeline header."""
    bench = Bench()
    await bench.deliver(FakeDelivery())
    (event,) = bench.publisher.published
    assert (event.what, event.journal) == ("event", "")


async def test_a_failure_is_recorded_with_its_evidence() -> None:
    """Also the only call of a request that failed: what it proves is not in the body."""
    bench = Bench(create=[REJECTED])
    await bench.deliver(FakeDelivery())
    assert timeline(bench.publisher.published[0]) == [("create", "400", 1, "refused")]


async def test_the_timeline_travels_through_the_retry_queues() -> None:
    """Each delivery adds its calls, each copy the reason of its wait; the event has all entries."""
    bench = Bench(RetryPolicy(reconcile="ambiguous", tries=1), create=[TIMEOUT, TaskCreated("i-1", None, "d-1")])
    first, *_, event = await follow(bench)
    assert timeline(first) == [("create", "timeout", 1, "ambiguous"), ("wait", "timeout", 2, "")]
    assert timeline(event) == [
        ("create", "timeout", 1, "ambiguous"),
        ("wait", "timeout", 2, ""),
        ("look", "absent", 0, ""),
        ("create", "done", 2, ""),
    ]
    journal = Journal.read(event.journal)
    assert journal is not None
    assert [journal.moment(entry) - NOW for entry in journal.entries] == [0, 0, 60, 60]
    assert [(entry.took, entry.id) for entry in journal.entries] == [(0, ""), (60, ""), (0, ""), (0, "d-1")]


async def test_a_parked_request_keeps_its_timeline() -> None:
    """It has the reason and the error code; its event has the same entries without the parking."""
    bench = Bench(create=[FORBIDDEN])
    await bench.deliver(FakeDelivery())
    parked, event = bench.publisher.published
    assert timeline(parked) == [("create", "403", 1, "refused"), ("parked", "forbidden", 0, "")]
    assert timeline(event) == timeline(parked)[:1]
    assert parked.headers[names.PARKED_ERROR_CODE] == "DCS.2003"


async def test_a_parked_request_bears_its_error_code() -> None:
    """The code of the last answer; one that a sender wrote is ignored."""
    bench = Bench(RetryPolicy(reconcile="ambiguous", tries=1), create=[BUSY])
    used_up = Envelope(1, 4, 5, 0, 0, NOW, None, True, False).write({names.PARKED_ERROR_CODE: "forged"})
    await bench.deliver(FakeDelivery(headers=used_up))
    assert bench.publisher.published[0].headers[names.PARKED_ERROR_CODE] == "DCS.4026"


async def test_a_forged_error_code_is_not_parked() -> None:
    """Where DCS answered no code there is none."""
    bench = Bench(RetryPolicy(reconcile="off"), create=[TIMEOUT])
    await bench.deliver(FakeDelivery(headers={names.PARKED_ERROR_CODE: "forged"}))
    assert names.PARKED_ERROR_CODE not in bench.publisher.published[0].headers


async def test_interrupted_deliveries_are_recorded() -> None:
    """The timeline shows a redelivery, and how often it was interrupted."""
    bench = Bench(find=[task_found()])
    await bench.deliver(FakeDelivery(redelivered=True, headers={names.DELIVERY_COUNT: 3}))
    assert timeline(bench.publisher.published[0]) == [("redelivered", "", 3, ""), ("look", "found", 0, "")]


async def test_a_wait_for_another_replica_is_recorded() -> None:
    """The timeline shows why a request had to wait."""
    bench = Bench()
    await bench.deliver(FakeDelivery())
    claims = FakeClaims(ClaimedElsewhere(bench.dcs.created[0].fingerprint))
    elsewhere = Bench(claims=claims)
    await elsewhere.deliver(FakeDelivery())
    assert timeline(elsewhere.publisher.published[0]) == [("wait", "claimed", 1, "")]


async def test_request_that_is_handed_back_records_it() -> None:
    """A replica that hands it back adds an entry."""
    bench = Bench()
    bench.throttle.close()
    await bench.deliver(FakeDelivery())
    (copy,) = bench.publisher.published
    assert (copy.what, timeline(copy)) == ("hand_back", [("returned", "", 0, "")])


async def test_a_long_timeline_stays_within_bounds() -> None:
    """With all retries of the default schedule the header fits, and keeps its first and last entries."""
    bench = Bench(create=[TIMEOUT], find=[TaskNotFound()])
    *_, parked, event = await follow(bench)
    assert (parked.what, event.body["reason"]) == ("park", "exhausted")
    text = parked.headers[names.JOURNAL]
    assert isinstance(text, str)
    assert len(text) <= LIMIT
    assert timeline(parked)[0] == ("create", "timeout", 1, "ambiguous")
    assert timeline(parked)[-1] == ("parked", "exhausted", 0, "")


async def test_copies_of_an_outcome_are_the_same_event() -> None:
    """All copies get one id, one body, one journal."""
    bench = Bench(create=[REJECTED])
    await bench.deliver(FakeDelivery())
    later = Envelope(0, 0, 2, 0, 0, NOW, None, True, False, journal=EMPTY.add(NOW, Kind.RETURNED))
    await bench.deliver(FakeDelivery(headers=later.write({})))
    first, other = bench.publisher.published
    assert (first.event_id, first.body, first.journal) == (other.event_id, other.body, other.journal)


@pytest.mark.parametrize("forged", ["[" * 3000, "{}", 5, None, b"\xff", EMPTY.add(NOW, Kind.CREATE, "done").text()])
async def test_the_timeline_decides_nothing(forged: object) -> None:
    """A journal by a sender changes neither calls nor event, and is not passed on."""
    bench = Bench()
    await bench.deliver(FakeDelivery(headers={names.JOURNAL: forged}))
    assert bench.dcs.calls == ["create"]
    assert bench.publisher.published[0].journal == ""

"""What is known of a request: which messages an outcome answers, which it does not, and how events tell them apart."""

import asyncio
import hashlib
import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from schemas.event import FAILED_TYPE, SUCCEEDED_TYPE
from schemas.timestamp import to_text
from tests.pipeline.bench import Bench
from tests.pipeline.fakes import (
    BUSY,
    FORBIDDEN,
    NOW,
    REJECTED,
    UNSENT,
    FakeClaims,
    FakeDelivery,
    copy_headers,
    request,
    task_found,
)
from worker.policy.call_result import TaskCreated, TaskNotFound
from worker.policy.outcome import ClaimAnswer, ClaimedElsewhere, Concluded, Granted, Unavailable

CREATED = TaskCreated("i-1")
OTHER_TASK = {"name": "u", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}


def published(bench: Bench, what: str = "event") -> list[tuple[str, bool]]:
    """Reason or resolution of each event, and whether it says that it is a repeated one."""
    events = [event for event in bench.publisher.published if event.what == what]
    return [(event.body.get("reason") or event.body.get("resolution") or "", event.is_repeated) for event in events]


EVENT_IDS = uuid.UUID("2f1f0a4c-93c3-5f8b-8d55-5f0c7f1f6f22")
SPACED = b"\xef\xbb\xbf " + request() + b"\n"


@pytest.mark.parametrize(
    ("body", "headers", "create", "meaning"),
    [
        (request(), {}, CREATED, ("p1", "r-1", SUCCEEDED_TYPE, "i-1")),
        (SPACED, {}, REJECTED, ("p1", "r-1", FAILED_TYPE, "rejected", 400, "DCS.4013", 0)),
        (request(), {"x-replays": 2}, FORBIDDEN, ("p1", "r-1", FAILED_TYPE, "forbidden", 403, "DCS.2003", 2)),
        (request(), {"x-round": 4}, UNSENT, ("p1", "r-1", FAILED_TYPE, "exhausted", "", "", 0)),
        (request(region="mars"), {}, None, ("p1", "r-1", FAILED_TYPE, "invalid_request", "", "", 0)),
        (b"hello", {"x-replays": 1}, None, ("", "", FAILED_TYPE, "invalid_request", "", "", 1)),
    ],
    ids=["succeeded", "failed", "replayed", "without an answer", "invalid", "unreadable"],
)
async def test_event_id_is_made_of_meaning(
    body: bytes, headers: Mapping[str, object], create: Any, meaning: tuple[object, ...]
) -> None:
    """A UUIDv5; of a failure also of the message body as received. What is unknown is the empty text."""
    bench = Bench(create=[create] * 3)
    await bench.deliver(FakeDelivery(body, headers=headers))
    parts = [*map(str, meaning), *([hashlib.sha256(body).hexdigest()] if FAILED_TYPE in meaning else [])]
    assert bench.publisher.published[-1].event_id == str(uuid.uuid5(EVENT_IDS, "\x1f".join(parts)))


async def test_answer_from_memory_says_so() -> None:
    """Event and report name an answer from memory; a copy that waited for the first is answered from memory too."""
    bench = Bench()
    await bench.deliver(FakeDelivery(), FakeDelivery())
    await bench.deliver(FakeDelivery())
    assert published(bench) == [("created", False), ("created", True), ("created", True)]
    assert [fact.is_repeated for fact in bench.observer.facts] == [False, True, True]


async def test_later_message_after_rejection_is_new_request() -> None:
    """The sender has the cause corrected: it is looked for, created, and the two events have two ids."""
    bench = Bench(create=[REJECTED, CREATED])
    await bench.deliver(FakeDelivery())
    bench.now += 1
    await bench.deliver(FakeDelivery())
    assert published(bench) == [("rejected", False), ("created", False)]
    assert bench.dcs.calls == ["create", "find", "create"]
    assert len({event.event_id for event in bench.publisher.published}) == 2


@pytest.mark.parametrize(
    ("headers", "redelivered"),
    [({}, True), (copy_headers(), False), (copy_headers(interruptions=1) | {"x-first-received-at": None}, False)],
    ids=["redelivered", "received before", "once redelivered, received at an unknown time"],
)
async def test_message_that_had_arrived_before_rejection_gets_it(
    headers: Mapping[str, object], redelivered: bool
) -> None:
    """A failure that was published never becomes a task for it."""
    bench = Bench(create=[REJECTED, CREATED])
    await bench.deliver(FakeDelivery())
    bench.now += 60
    known = {name: value for name, value in headers.items() if value is not None}
    await bench.deliver(FakeDelivery(headers=known, redelivered=redelivered))
    assert published(bench) == [("rejected", False), ("rejected", True)]
    assert bench.dcs.calls == ["create"]


async def test_waiting_copy_gets_rejection_although_clock_steps_back() -> None:
    """It was received while the first was in progress, by whatever clock."""
    answer = asyncio.Event()
    bench = Bench(create=[answer, REJECTED, CREATED])
    bench.dispatcher.deliver(FakeDelivery())
    bench.dispatcher.deliver(FakeDelivery())
    await asyncio.sleep(0.01)
    bench.now -= 3600
    answer.set()
    await bench.idle()
    assert published(bench) == [("rejected", False), ("rejected", True)]


@pytest.mark.parametrize(("create", "reason"), [(REJECTED, "created"), (FORBIDDEN, "conflict"), (CREATED, "conflict")])
async def test_id_is_free_for_another_task_after_failure_that_is_not_parked(create: Any, reason: str) -> None:
    """After a success, or while the request is parked, it is a conflict, which speaks of this message only."""
    bench = Bench(create=[create, CREATED])
    await bench.deliver(FakeDelivery())
    bench.now += 1
    await bench.deliver(FakeDelivery(request(task=OTHER_TASK)))
    assert published(bench)[1] == (reason, False)
    assert bench.publisher.events[1]["name"] == "u"


async def test_conflict_answers_its_own_message_only() -> None:
    """Two messages that conflict have two ids, one that is repeated has one, and the request has its own."""
    bench = Bench()
    await bench.deliver(FakeDelivery())
    for name in ("u", "u", "w"):
        await bench.deliver(FakeDelivery(request(task=OTHER_TASK | {"name": name})))
    await bench.deliver(FakeDelivery())
    ids = [event.event_id for event in bench.publisher.published]
    assert [reason for reason, _ in published(bench)] == ["created", *["conflict"] * 3, "created"]
    assert (ids[1] == ids[2], ids[0] == ids[4], len(set(ids))) == (True, True, 3)


async def test_conflicting_message_gets_conflict_again_after_first_was_rejected() -> None:
    """Its redelivery was told of the conflict: it must not create now. A later message is free to."""
    answer = asyncio.Event()
    bench = Bench(create=[answer, REJECTED, CREATED])
    bench.dispatcher.deliver(FakeDelivery())
    bench.dispatcher.deliver(FakeDelivery(request(task=OTHER_TASK)))
    await asyncio.sleep(0.01)
    answer.set()
    await bench.idle()
    bench.now += 1
    await bench.deliver(FakeDelivery(request(task=OTHER_TASK), redelivered=True))
    assert [reason for reason, _ in published(bench)] == ["rejected", "conflict", "conflict"]
    assert len({event.event_id for event in bench.publisher.published}) == 2
    await bench.deliver(FakeDelivery(request(task=OTHER_TASK)))
    assert published(bench)[-1] == ("created", False)


async def test_invalid_message_and_later_failure_have_two_ids() -> None:
    """A typing error that is corrected under its request id; then DCS refuses the request."""
    bench = Bench(create=[REJECTED])
    for body in (request(task={"name": "t"}), request(task={"nane": "t"}), request()):
        await bench.deliver(FakeDelivery(body))
    assert [reason for reason, _ in published(bench)] == ["invalid_request", "invalid_request", "rejected"]
    assert len({event.event_id for event in bench.publisher.published}) == 3


@pytest.mark.parametrize(
    ("later_by", "reason"),
    [
        (0.0, ("expired", True)),
        (0.5, ("expired", False)),
        (60.0, ("created", False)),
        (None, ("created", False)),
    ],
)
async def test_expired_answers_no_message_with_later_not_after(
    later_by: float | None, reason: tuple[str, bool]
) -> None:
    """Received before the first expired, but it may still be created, or expire by itself."""
    bench = Bench()
    await bench.deliver(FakeDelivery(request(not_after=to_text(NOW - 1))))
    not_after = None if later_by is None else to_text(NOW - 1 + later_by)
    await bench.deliver(FakeDelivery(request(not_after=not_after), headers=copy_headers()))
    assert published(bench) == [("expired", False), reason]


@pytest.mark.parametrize("is_waiting", [False, True], ids=["from memory", "waiting for the first"])
async def test_expired_answers_no_copy_that_may_have_task(is_waiting: bool) -> None:
    """Another replica may have created its task; a copy for which nothing was sent gets the answer."""
    look = asyncio.Event()
    bench = Bench(find=[look, TaskNotFound(), task_found()])
    for sent_at in (None, None, NOW - 600):
        body = request(not_after=to_text(NOW - 1))
        bench.dispatcher.deliver(FakeDelivery(body, headers=copy_headers(last_sent_at=sent_at)))
        if not is_waiting:
            look.set()
            await bench.idle()
    await asyncio.sleep(0.01)
    look.set()
    await bench.idle()
    assert published(bench) == [("expired", False), ("expired", True), ("adopted", False)]


@pytest.mark.parametrize(
    ("headers", "answer"),
    [({}, ("expired", True)), (copy_headers(last_sent_at=NOW - 600), ("adopted", False))],
    ids=["never sent", "a copy that was sent"],
)
async def test_redelivery_of_expired_message_gets_answer(
    headers: Mapping[str, object], answer: tuple[str, bool]
) -> None:
    """Every redelivery may have been sent just now; unless more is known of it, its outcome was lost with it."""
    bench = Bench(find=[task_found()])
    for delivery in (FakeDelivery, lambda body: FakeDelivery(body, headers=headers, redelivered=True)):
        await bench.deliver(delivery(request(not_after=to_text(NOW - 1))))
    assert published(bench) == [("expired", False), answer]
    assert len(bench.dcs.calls) == (answer[0] == "adopted")


async def test_copy_of_parked_request_is_not_parked_again() -> None:
    """It gets the event of the first, and the report counts one parked request."""
    bench = Bench(create=[FORBIDDEN])
    await bench.deliver(FakeDelivery(), FakeDelivery())
    bench.now += 1
    await bench.deliver(FakeDelivery())
    assert [entry.what for entry in bench.publisher.published].count("park") == 1
    assert published(bench) == [("forbidden", False), ("forbidden", True), ("forbidden", True)]
    assert [fact.parked for fact in bench.observer.facts] == [True, False, False]
    assert bench.dcs.calls.count("create") == 1


@pytest.mark.parametrize(
    ("headers", "redelivered"), [({}, True), (copy_headers(interruptions=1), False)], ids=["redelivered", "handed back"]
)
async def test_redelivery_of_request_that_ended_before_it_was_parked_is_parked(
    headers: Mapping[str, object], redelivered: bool
) -> None:
    """Its first delivery was lost between the outcome and the parked queue."""
    answer = asyncio.Event()
    bench = Bench(create=[answer, FORBIDDEN])
    lost = FakeDelivery()
    bench.dispatcher.deliver(lost)
    await asyncio.sleep(0.01)
    lost.lost = True
    answer.set()
    await bench.idle()
    assert bench.publisher.published == []
    await bench.deliver(FakeDelivery(headers=headers, redelivered=redelivered))
    assert [entry.what for entry in bench.publisher.published] == ["park", "event"]
    assert bench.publisher.published[0].headers["x-parked-reason"] == "forbidden"


async def test_replay_ends_memory_of_parked_request() -> None:
    """A copy that comes while the replay waits in a retry queue is no longer answered as parked."""
    bench = Bench(create=[FORBIDDEN, BUSY, BUSY, BUSY, CREATED])
    await bench.deliver(FakeDelivery())
    await bench.deliver(FakeDelivery(headers={"x-replays": 1}))
    await bench.deliver(FakeDelivery())
    assert bench.observer.outcomes == [("failed", "forbidden"), ("retried", "400"), ("succeeded", "created")]


@pytest.mark.parametrize(
    ("answer", "outcome", "calls"),
    [
        (Unavailable(), ("failed", "forbidden"), []),
        (Granted(has_record=False), ("retried", "settle"), ["find"]),
        (Granted(is_first=False, last_sent_at=NOW - 600), ("succeeded", "created"), ["find", "create"]),
    ],
    ids=["away", "deleted just now", "deleted, and claimed since"],
)
async def test_parked_in_memory_is_confirmed_by_redis(
    answer: ClaimAnswer, outcome: tuple[str, str], calls: list[str]
) -> None:
    """An operator may have replayed or dropped it; without an answer the memory counts."""
    claims = FakeClaims()
    bench = Bench(create=[FORBIDDEN, CREATED], claims=claims)
    await bench.deliver(FakeDelivery())
    claims.answer, before = answer, len(bench.dcs.calls)
    bench.now += 1
    await bench.deliver(FakeDelivery())
    assert (bench.observer.outcomes[1], bench.dcs.calls[before:]) == (outcome, calls)
    assert claims.recorded[-1][0] == ("release" if calls == ["find"] else "conclude")
    assert [entry.what for entry in bench.publisher.published].count("park") == 1


@pytest.mark.parametrize(
    ("answer", "recorded"),
    [
        (Unavailable(), None),
        (Granted(has_record=False), "conclude"),
        (Granted(is_first=False, last_sent_at=NOW + 30), ("release", NOW + 30)),
    ],
    ids=["away", "forgotten", "sent anew elsewhere"],
)
async def test_published_rejection_answers_earlier_message_whatever_redis_knows(
    answer: ClaimAnswer, recorded: str | tuple[str, float] | None
) -> None:
    """A Redis that did not hear of it is told, unless a replica works on a later message: what it sent stays known."""
    claims = FakeClaims()
    bench = Bench(create=[REJECTED, CREATED], claims=claims)
    await bench.deliver(FakeDelivery())
    claims.answer, before = answer, len(claims.recorded)
    bench.now += 60
    await bench.deliver(FakeDelivery(headers=copy_headers()))
    assert published(bench) == [("rejected", False), ("rejected", True)]
    assert bench.dcs.calls == ["create"]
    told = [each if each[0] == "release" else each[0] for each in claims.recorded[before:]]
    assert told == ([] if recorded is None else [recorded])


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Granted(is_first=False), ("expired", True)),
        (Granted(is_first=False, last_sent_at=NOW - 600), ("adopted", False)),
    ],
    ids=["never sent", "sent elsewhere"],
)
async def test_redelivery_of_expired_message_is_looked_for_if_redis_knows_of_create(
    answer: ClaimAnswer, outcome: tuple[str, bool]
) -> None:
    """A copy expired at this replica while Redis was away; another replica had sent a create for the message."""
    claims = FakeClaims(Unavailable())
    bench = Bench(find=[TaskNotFound(), task_found()], claims=claims)
    expired = request(not_after=to_text(NOW - 1))
    await bench.deliver(FakeDelivery(expired))
    claims.answer = answer
    await bench.deliver(FakeDelivery(expired, redelivered=True))
    assert published(bench) == [("expired", False), outcome]


async def test_parked_in_memory_gives_way_to_outcome_in_redis() -> None:
    """Another replica worked on the replay."""
    first = FakeClaims()
    await Bench(claims=first).deliver(FakeDelivery())
    success: Any = first.recorded[0][1]
    claims = FakeClaims()
    bench = Bench(create=[FORBIDDEN], claims=claims)
    await bench.deliver(FakeDelivery())
    claims.answer = Concluded(success)
    await bench.deliver(FakeDelivery())
    assert published(bench) == [("forbidden", False), ("created", True)]


async def test_outcome_that_stands_is_marked_and_not_parked_again() -> None:
    """Another replica came to it, and parks the request."""
    first = FakeClaims()
    await Bench(create=[FORBIDDEN], claims=first).deliver(FakeDelivery())
    claims = FakeClaims()
    claims.stored = first.recorded[0][1]  # type: ignore[assignment]
    bench = Bench(claims=claims)
    await bench.deliver(FakeDelivery())
    assert published(bench) == [("forbidden", True)]
    assert [entry.what for entry in bench.publisher.published] == ["event"]


async def test_stale_failure_in_redis_does_not_hide_success() -> None:
    """It was stored late by a replica that worked on an earlier message, after this later one was claimed."""
    first = FakeClaims()
    await Bench(create=[REJECTED], claims=first).deliver(FakeDelivery())
    claims = FakeClaims(Granted(is_first=False))
    claims.stored = first.recorded[0][1]  # type: ignore[assignment]
    bench = Bench(claims=claims)
    bench.now += 1
    await bench.deliver(FakeDelivery())
    assert published(bench) == [("created", False)]
    assert isinstance(claims.answer, Granted | ClaimedElsewhere)


@pytest.mark.parametrize(("seconds", "reason"), [(0.0, "conflict"), (14.0, "conflict"), (16.0, "created")])
async def test_waiting_request_conflicts_until_it_must_be_back(seconds: float, reason: str) -> None:
    """Later another replica may have failed it, and the sender may have corrected it: it is looked for."""
    bench = Bench(create=[BUSY, BUSY, BUSY, CREATED])
    await bench.deliver(FakeDelivery())
    bench.now += seconds
    await bench.deliver(FakeDelivery(request(task=OTHER_TASK)))
    assert published(bench) == [(reason, False)]
    assert bench.dcs.calls[3:] == ([] if reason == "conflict" else ["find", "create"])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(Granted(is_first=False), "created"), (Unavailable(), "conflict"), (ClaimedElsewhere("other"), "conflict")],
)
async def test_redis_decides_whether_another_task_is_a_conflict(answer: ClaimAnswer, reason: str) -> None:
    """This replica remembers an unfinished request, which another replica may have failed since."""
    claims = FakeClaims()
    bench = Bench(create=[BUSY, BUSY, BUSY, CREATED], claims=claims)
    await bench.deliver(FakeDelivery())
    claims.answer = answer
    await bench.deliver(FakeDelivery(request(task=OTHER_TASK)))
    assert published(bench) == [(reason, False)]

"""Answers that belong to another call prove nothing, and their connection is dropped."""

import asyncio

import pytest

from tests.unit.dcs.raw_server import EMPTY_PAGE, RawServer, allowed, an_order, calling, created, http, serving
from worker.dcs import stale_answers
from worker.dcs.client import DcsClient
from worker.policy.call_result import CallError, CallStatus, Evidence, TaskCreated, TaskNotFound

REFUSAL = b'{"error_code":"DCS.4013","error_msg":"wrong"}'


async def assert_stale(dcs: DcsClient, request_id: str, words: str) -> None:
    """The create of this request proves nothing because its answer is another one's."""
    result = await dcs.create(an_order(request_id), allowed)
    assert isinstance(result, CallError), result
    assert (result.evidence, result.status) == (Evidence.AMBIGUOUS, CallStatus.STALE_ANSWER), result
    assert words in result.message


async def test_task_of_another_request_is_not_believed() -> None:
    """A proxy repeats the former answer in front of the next one: the next but one has its own, by a new connection."""
    doubled = created("t-1") + created("t-2")
    async with serving(created("t-1"), doubled, created("t-3")) as server, calling(server.url) as dcs:
        assert await dcs.create(an_order("r-1"), allowed) == TaskCreated("t-1")
        await assert_stale(dcs, "r-2", "t-1 was the answer to another request")
        assert await dcs.create(an_order("r-3"), allowed) == TaskCreated("t-3")
        assert (len(server.connections), server.creates) == (2, 3)


async def test_task_of_another_request_is_not_believed_on_any_connection() -> None:
    """Nor after a while, on a connection of its own."""
    close = b"Connection: close"
    answers = (created("t-1", close), created("t-2", close), created("t-1", close))
    async with serving(*answers) as server, calling(server.url) as dcs:
        assert await dcs.create(an_order("r-1"), allowed) == TaskCreated("t-1")
        assert await dcs.create(an_order("r-2"), allowed) == TaskCreated("t-2")
        await assert_stale(dcs, "r-3", "t-1 was the answer to another request")
        assert len(server.connections) == 3


async def test_same_task_for_the_same_request_is_believed() -> None:
    """A service that gives a repeated create the same task."""
    async with serving(created("t-1"), created("t-1")) as server, calling(server.url) as dcs:
        for _ in range(2):
            assert await dcs.create(an_order("r-1"), allowed) == TaskCreated("t-1")


async def test_memory_of_tasks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten."""
    monkeypatch.setattr(stale_answers, "REMEMBERED", 2)
    tasks = ("t-1", "t-2", "t-3", "t-1")
    async with serving(*map(created, tasks)) as server, calling(server.url) as dcs:
        for number, task in enumerate(tasks):
            assert await dcs.create(an_order(f"r-{number}"), allowed) == TaskCreated(task)


@pytest.mark.parametrize(
    "repeated",
    [
        created("t-2", b"X-Request-Id: q-1"),
        http(400, REFUSAL, b"X-Request-Id: q-1"),
        http(400, b'{"error_code":"DCS.4013","error_msg":"wrong","request_id":"q-1"}'),
        http(401, b'{"error_code":"APIGW.0301","error_msg":"wrong"}', b"X-Request-Id: q-1"),
    ],
)
@pytest.mark.parametrize("first", ["create", "find"])
async def test_request_id_of_the_answer_before_is_not_believed(repeated: bytes, first: str) -> None:
    """Whatever the call before was."""
    before = created("t-1", b"X-Request-Id: q-1")
    if first == "find":
        before = http(200, EMPTY_PAGE, b"X-Request-Id: q-1")
    async with serving(before, repeated, created("t-3", b"X-Request-Id: q-1")) as server, calling(server.url) as dcs:
        if first == "create":
            assert isinstance(await dcs.create(an_order("r-1"), allowed), TaskCreated)
        else:
            assert await dcs.find(an_order("r-1"), 0.0) == TaskNotFound()
        await assert_stale(dcs, "r-2", "q-1")
        # On a connection of its own an id proves nothing against an answer.
        assert isinstance(await dcs.create(an_order("r-3"), allowed), TaskCreated)
        assert (len(server.connections), server.creates) == (2, 3 if first == "create" else 2)


async def test_request_id_of_an_earlier_answer_is_believed() -> None:
    """Only the answer just before counts: ids of the service are not known to be unique for ever."""
    answers = (created(f"t-{number}", b"X-Request-Id: q-%d" % (number % 2)) for number in range(3))
    async with serving(*answers) as server, calling(server.url) as dcs:
        for number in range(3):
            assert await dcs.create(an_order(f"r-{number}"), allowed) == TaskCreated(
                f"t-{number}", dcs_request_id=f"q-{number % 2}"
            )
        assert len(server.connections) == 1


@pytest.mark.parametrize("late", [http(408), http(400), http(403, b"<html>"), http(401, b"", b"Connection: close")])
async def test_refusal_that_came_unasked_is_not_believed(late: bytes) -> None:
    """A late one lies behind the last answer in the same segment; only the service's own are believed."""
    async with serving(created("t-1") + late, created("t-3")) as server, calling(server.url) as dcs:
        assert await dcs.create(an_order("r-1"), allowed) == TaskCreated("t-1")
        await assert_stale(dcs, "r-2", "may have come unasked")
        assert await dcs.create(an_order("r-3"), allowed) == TaskCreated("t-3")
        assert len(server.connections) == 2


@pytest.mark.parametrize(
    "refusal",
    [
        http(400, REFUSAL),
        http(400, b'{"error_code":"111400013","error_msg":"wrong"}'),
        http(400, b'{"error_code":"APIGW.0106","error_msg":"wrong"}'),
    ],
)
async def test_refusal_of_the_service_is_believed_on_a_kept_connection(refusal: bytes) -> None:
    """By its code."""
    async with serving(created("t-1"), refusal) as server, calling(server.url) as dcs:
        assert await dcs.create(an_order("r-1"), allowed) == TaskCreated("t-1")
        result = await dcs.create(an_order("r-2"), allowed)
        assert isinstance(result, CallError)
        assert result.evidence is Evidence.REFUSED


@pytest.mark.parametrize("refusal", [http(400), http(400, b"<html>", b"X-Request-Id: q-2")])
async def test_refusal_without_a_code_proves_nothing(refusal: bytes) -> None:
    """Not even on a new connection, where nothing can have come before it: a proxy may have answered."""
    async with serving(refusal) as server, calling(server.url) as dcs:
        result = await dcs.create(an_order(), allowed)
        assert isinstance(result, CallError)
        assert (result.evidence, result.http_status) == (Evidence.AMBIGUOUS, 400)
        assert "neither DCS nor its gateway" in result.message


async def test_answers_of_look_ups_are_believed() -> None:
    """They create nothing."""
    page = http(200, EMPTY_PAGE, b"X-Request-Id: q-1")
    async with serving(page, page) as server, calling(server.url) as dcs:
        for _ in range(2):
            assert await dcs.find(an_order(), 0.0) == TaskNotFound()
        assert len(server.connections) == 1


async def test_connection_with_a_stale_answer_serves_no_other_call() -> None:
    """Not even one that begins in the very moment."""
    later = [created(f"later-{number}") for number in range(50)]
    async with serving(created("t-1"), created("t-1") + created("t-2"), *later) as server, calling(server.url) as dcs:
        assert await dcs.create(an_order("r-1"), allowed) == TaskCreated("t-1")
        stale = asyncio.create_task(assert_stale(dcs, "r-2", "t-1"))
        creates: list[asyncio.Task[TaskCreated | CallError]] = []
        while not stale.done():
            await asyncio.sleep(0)
            creates += [asyncio.create_task(dcs.create(an_order(f"r-{len(creates)}x"), allowed))]
        await stale
        tasks = [
            result.instance_id for result in await asyncio.gather(*creates[:50]) if isinstance(result, TaskCreated)
        ]
        assert len(tasks) == len(creates[:50])
        assert "t-2" not in tasks
        await asyncio.gather(*creates)


def test_what_is_remembered_is_shown_in_numbers() -> None:
    """No id is."""
    assert repr(stale_answers.StaleAnswers()) == "<StaleAnswers: 0 connections, 0 tasks>"
    assert RawServer(b"").creates == 0

"""The DCS client against the fake DCS: every ending of a call, typed by evidence."""

import asyncio
import json
import math
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from schemas.dcs import ListReply, TaskRow, read_reply
from schemas.request import Request, parse
from tests.fakes.faulty_dcs import FaultyDcs
from worker.dcs.auth.auth_method import ReadyToken
from worker.dcs.client import DcsClient
from worker.dcs.http_client import HttpClient
from worker.dcs.task_calls import TaskCalls
from worker.dcs.transport import ServiceTransport
from worker.policy import error_table
from worker.policy.call_result import (
    CallError,
    Condition,
    ConflictingTask,
    ErrorKind,
    Evidence,
    NamedLimit,
    SeveralTasks,
    TaskCreated,
    TaskFound,
    TaskNotFound,
)
from worker.policy.freeze_detector import FreezeDetector
from worker.policy.migration_request import MigrationRequest, migration
from worker.tools.fake_dcs import PLAIN_TEXT_PASSWORD, MigrationTask

SYSTEM_TLS = ssl.create_default_context()
PROJECT = "0123456789abcdef0123456789abcdef"
STATUS_WORDS = (
    *("CREATING", "RUNNING", "FULLMIGRATING", "INCRMIGEATING", "MIGRATING", "TERMINATING", "TERMINATED"),
    *("MIGRATION_SUCCESS", "MIGRATION_FAILED", "SUCCESS", "FAILED", "ERROR", "RELEASED", "DELETED", "A new word"),
)
"""All that are known, and one that is not."""
Told = list[tuple[str, str]]
STEP = "Umzug der Caches des Mandanten 4711 in das neue Netz, Schritt"


def an_order(name: str = "thrc", *, with_marker: bool = True, request_id: str = "r-1", **task: str) -> MigrationRequest:
    """An order for a task of this name."""
    content = {
        "request_id": request_id,
        "project_id": PROJECT,
        "task": {"name": name, "vpc_id": "5e37b3be-950a-48e1-b498-65b63d336481"}
        | {"subnet_id": "40f15ed6-7f85-49d5-ba0e-65b940d4812c"}
        | {"security_group_id": "9df96622-24b7-4813-84b8-ab74552a21d7"}
        | task,
    }
    request = parse(json.dumps(content).encode(), max_bytes=65536)
    return migration(request, default_region="cn-north-4", with_marker=with_marker)


@asynccontextmanager
async def client(
    url: str, *, deadline: float = 1.0, told: Told | None = None, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[DcsClient]:
    """A client of the service at `url`."""
    calls = told if told is not None else []
    transport = ServiceTransport(SYSTEM_TLS, deadline)
    http = HttpClient(
        transport,
        deadline=deadline,
        freeze_detector=FreezeDetector(clock),
        on_call_end=lambda operation, label, *_: calls.append((operation, label)),
    )
    try:
        yield DcsClient(http, ReadyToken(lambda: "token"), {"cn-north-4": url})
    finally:
        await transport.aclose()


@asynccontextmanager
async def service(
    told: Told | None = None, deadline: float = 1.0, **settings: Any
) -> AsyncIterator[tuple[DcsClient, FaultyDcs]]:
    """A client and its fake DCS."""
    async with (
        FaultyDcs(**settings) as fake_dcs,
        client(fake_dcs.url, told=told, deadline=deadline) as dcs,
    ):
        yield dcs, fake_dcs


async def test_a_task_is_created_with_the_marker() -> None:
    """Id, job id and request id come back; the body is what the documentation wants."""
    told: Told = []
    async with service(told) as (dcs, fake_dcs):
        ending = await dcs.create(an_order(description="mine"), go)
        assert isinstance(ending, TaskCreated)
        (task,) = fake_dcs.tasks
        assert (ending.instance_id, bool(ending.job_id), bool(ending.dcs_request_id)) == (task.task_id, True, True)
        assert task.body["description"].startswith("mine #rq-")
        assert told == [("create", "200")]


async def go() -> bool:
    """Nothing is against it."""
    return True


A, N, R = Evidence.AMBIGUOUS, Evidence.NEVER_SENT, Evidence.REFUSED


@pytest.mark.parametrize(
    ("step", "evidence", "kind", "label"),
    [
        ("create then drop", A, ErrorKind.RETRY, "reset"),
        ("drop", A, ErrorKind.RETRY, "reset"),
        ("close", A, ErrorKind.RETRY, "reset"),
        ("hang", A, ErrorKind.RETRY, "timeout"),
        ("create then hang", A, ErrorKind.RETRY, "timeout"),
        ("create then cut", A, ErrorKind.RETRY, "reset"),
        ("create then html", A, ErrorKind.RETRY, "200"),
        ("create then no id", A, ErrorKind.RETRY, "200"),
        ("create then oversize", A, ErrorKind.RETRY, "oversize"),
        ("redirect", A, ErrorKind.RETRY, "302"),
        ("error 500 DCS.5000", A, ErrorKind.RETRY, "500"),
        ("create then error 504 APIG.0201", A, ErrorKind.RETRY, "504"),
        ("error 503 APIGW.0613", R, ErrorKind.RETRY, "503"),
        ("error 400 DCS.4026", R, ErrorKind.RETRY, "400"),
        ("error 400 DCS.4035", R, ErrorKind.CAPACITY, "400"),
        ("error 400 DCS.4013", R, ErrorKind.REJECTED, "400"),
        ("error 401 APIGW.0301", R, ErrorKind.UNAUTHENTICATED, "401"),
        ("error 403 DCS.2003", R, ErrorKind.FORBIDDEN, "403"),
        ("error 404 APIGW.0101", R, ErrorKind.NOT_FOUND, "404"),
        ("error 404 DCS.5101", R, ErrorKind.RETRY, "404"),
        ("throttle 5/second", R, ErrorKind.THROTTLED, "429"),
    ],
)
async def test_every_ending_is_typed_by_evidence(step: str, evidence: Evidence, kind: ErrorKind, label: str) -> None:
    """What may have acted is ambiguous; what proves that nothing happened is not."""
    told: Told = []
    async with service(told, deadline=0.3 if label == "timeout" else 10.0, scripts={"thrc": [step]}) as (dcs, _):
        ending = await dcs.create(an_order(), go)
        assert isinstance(ending, CallError)
        assert (ending.evidence, ending.kind, ending.label) == (evidence, kind, label)
        assert told == [("create", label)]


async def test_a_fault_keeps_what_the_service_said() -> None:
    """Raw code, message, request id; the throttle window and Retry-After in both forms."""
    steps = ["throttle 5/2 second retry after 7", "throttle retry at 9", "error 400 DCS.4013"]
    async with service(scripts={"thrc": steps}) as (dcs, _):
        first, second, third = [await dcs.create(an_order(), go) for _ in steps]
        assert isinstance(first, CallError)
        assert isinstance(second, CallError)
        assert isinstance(third, CallError)
        assert (first.error_code, first.retry_after) == ("APIGW.0308", 7.0)
        assert first.throttle is not None
        assert (first.throttle.calls, first.throttle.window) == (5, 2.0)
        assert second.retry_after is not None
        assert 7 < second.retry_after <= 9
        assert (third.error_code, third.http_status) == ("DCS.4013", 400)
        assert third.error_msg
        assert third.dcs_request_id


@pytest.mark.parametrize(
    ("status", "content", "evidence", "kind", "code"),
    [
        (400, {"error": {"code": "DCS.4872", "message": "m", "ext_message": "x"}}, R, ErrorKind.REJECTED, "DCS.4872"),
        (400, {"errors": [{"code": "APIG.0106", "message": "m"}]}, R, ErrorKind.RETRY, "APIG.0106"),
        (403, {"errorCode": "DCS.2003", "errorMessage": "m"}, R, ErrorKind.FORBIDDEN, "DCS.2003"),
        (403, {"errorCode": "SWR.0403", "errorMessage": "m"}, A, ErrorKind.RETRY, "SWR.0403"),
        (409, {"NeutronError": {"message": "m", "type": "Exists", "detail": ""}}, A, ErrorKind.RETRY, "Exists"),
        (429, {"errorCode": "ModelArts.0107", "errorMessage": "m"}, R, ErrorKind.THROTTLED, "ModelArts.0107"),
    ],
)
async def test_error_bodies_of_other_services_are_read(
    status: int, content: dict[str, Any], evidence: Evidence, kind: ErrorKind, code: str
) -> None:
    """Whatever the shape, a code of DCS or its gateway means the same, and no other code proves anything."""
    async with service(scripts={"thrc": [f"reply {status} {json.dumps(content)}"]}) as (dcs, _):
        ending = await dcs.create(an_order(), go)
        assert isinstance(ending, CallError)
        assert (ending.evidence, ending.kind, ending.error_code, ending.error_msg) == (evidence, kind, code, "m")
        assert ending.error_ext_msg == ("x" if code == "DCS.4872" else None)
        assert error_table.is_foreign(ending) is (code == "SWR.0403")


@pytest.mark.parametrize(
    ("text", "condition", "limit"),
    [
        ("Too many requests, exceeded rate limit is 30 times per minute.", Condition.REGION_THROTTLED, (30, 60.0)),
        ("policy user over ratelimit,limit:10", Condition.PROJECT_THROTTLED, None),
        ("policy ip over ratelimit,limit:5,time:5 second", Condition.REGION_THROTTLED, (5, 5.0)),
        ("slow down", None, None),
    ],
)
async def test_429_is_a_throttle_whatever_its_text(
    text: str, condition: Condition | None, limit: tuple[int, float] | None
) -> None:
    """Whom it concerns, and a limit only if the text has a time."""
    body = json.dumps({"error_code": "APIGW.0308", "error_msg": text})
    async with service(scripts={"thrc": [f"reply 429 {body}"]}) as (dcs, _):
        ending = await dcs.create(an_order(), go)
        assert isinstance(ending, CallError)
        assert (ending.kind, ending.condition) == (ErrorKind.THROTTLED, condition)
        assert ending.throttle == (NamedLimit(*limit) if limit else None)


async def test_refused_connections_prove_that_nothing_was_sent() -> None:
    """No listener, a name that does not resolve, TLS spoken to a plain port: never sent."""
    async with FaultyDcs() as fake_dcs:
        port = fake_dcs.url.rsplit(":", 1)[1]
        for url in ("http://127.0.0.1:1", "http://does-not-exist.invalid", f"https://127.0.0.1:{port}"):
            async with client(url, deadline=5) as dcs:
                ending = await dcs.create(an_order(), go)
                assert isinstance(ending, CallError)
                assert (ending.evidence, ending.label) == (Evidence.NEVER_SENT, "refused"), (url, ending)


async def test_a_connection_that_is_never_accepted_was_never_sent() -> None:
    """A deadline that passes while connecting is no ambiguity."""

    async def never(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    writers: list[asyncio.StreamWriter] = []
    # The handshake of TLS never ends, so no request can have left.
    server = await asyncio.start_server(never, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with client(f"https://127.0.0.1:{port}", deadline=0.2) as dcs:
            ending = await dcs.create(an_order(), go)
        for writer in writers:
            writer.close()
    assert isinstance(ending, CallError)
    assert (ending.evidence, ending.label) == (Evidence.NEVER_SENT, "timeout")


async def test_a_kept_connection_that_the_service_closed_is_ambiguous() -> None:
    """The request may have been read before the connection ended; it is never posted again by the transport."""
    async with service(scripts={"second": ["close"]}) as (dcs, fake_dcs):
        assert isinstance(await dcs.create(an_order(), go), TaskCreated)
        ending = await dcs.create(an_order("second"), go)
        assert isinstance(ending, CallError)
        assert ending.evidence is Evidence.AMBIGUOUS
        assert [call.operation for call in fake_dcs.calls] == ["create", "create"]


async def test_a_process_that_was_frozen_sends_nothing_any_more() -> None:
    """Law 5: woken up between the beginning of a call and its first byte, it gives the call up."""
    clock = iter([0.0, 0.0, 60.0, 60.0])
    async with FaultyDcs() as fake_dcs, client(fake_dcs.url, clock=lambda: next(clock)) as dcs:
        ending = await dcs.create(an_order(), go)
        assert isinstance(ending, CallError)
        assert (ending.evidence, ending.label, len(fake_dcs.calls)) == (Evidence.NEVER_SENT, "frozen", 0)


async def test_a_create_that_comes_too_late_is_not_sent() -> None:
    """Asked right before the request leaves."""

    async def stop() -> bool:
        return False

    async with service() as (dcs, fake_dcs):
        ending = await dcs.create(an_order(), stop)
        assert isinstance(ending, CallError)
        assert (ending.evidence, ending.label, fake_dcs.calls) == (Evidence.NEVER_SENT, "stale", [])


async def test_cancellation_reaches_the_caller() -> None:
    """It is no ending of the call."""
    async with service(scripts={"thrc": ["hang"]}) as (dcs, _):
        call = asyncio.create_task(dcs.create(an_order(), go))
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_a_task_is_found_by_its_marker_among_others() -> None:
    """All pages, fuzzy names, other kinds and other requests' tasks of the same name."""
    async with service(mixed_types=True) as (dcs, fake_dcs):
        assert await dcs.find(an_order(), 0.0) == TaskNotFound()
        for number in range(530):
            add_tasks(fake_dcs, 1, an_order("thrc" if number % 2 else "thrc-x", request_id=f"other-{number}"))
        created = await dcs.create(an_order(), go)
        assert isinstance(created, TaskCreated)
        add_tasks(fake_dcs, 530)
        assert await dcs.find(an_order(), 0.0) == TaskFound(created.instance_id, task_status="RUNNING")
        assert [call.operation for call in fake_dcs.calls] == ["list", "create", *["list"] * 4]


def add_tasks(
    fake_dcs: FaultyDcs, count: int, order: MigrationRequest | None = None, **task: Any
) -> list[MigrationTask]:
    """Add tasks of other requests, the last the newest, and return them."""
    tasks = []
    for number in range(count):
        body = json.loads((order or an_order(request_id=f"later-{number}")).body)
        content = {"created": time.time() + number} | body | task
        tasks.append(MigrationTask(PROJECT, **content))
        fake_dcs.add_task(tasks[-1])
    return tasks


def delete(tasks: Iterable[MigrationTask]) -> None:
    """The service lists these tasks no longer."""
    for task in tasks:
        task.visible = math.inf


@pytest.mark.parametrize(("largest_page", "gone"), [(None, 10), (50, 1), (50, 49), (50, 60)])
async def test_a_row_that_moves_to_a_page_that_was_read_is_found(largest_page: int | None, gone: int) -> None:
    """Tasks are deleted after the first page was served: the list is read anew, until nothing has moved."""
    count = largest_page or 1000
    async with service(largest_page=largest_page) as (dcs, fake_dcs):
        add_tasks(fake_dcs, 40)
        created = await dcs.create(an_order(), go)
        assert isinstance(created, TaskCreated)
        newer = add_tasks(fake_dcs, count + 5)
        fake_dcs.on_page(lambda: delete(newer[:gone]))
        assert await dcs.find(an_order(), 0.0) == TaskFound(created.instance_id, task_status="RUNNING")


async def test_rows_that_are_added_while_a_list_is_read_hide_none() -> None:
    """All rows move back by as many; a whole page may bring no new row."""
    for added in (1, 49, 50, 51, 100):
        async with service(largest_page=50) as (dcs, fake_dcs):
            created = await dcs.create(an_order(), go)
            add_tasks(fake_dcs, 70)
            batches = iter([added])

            def add(fake_dcs: FaultyDcs = fake_dcs, batches: Iterator[int] = batches) -> None:
                add_tasks(fake_dcs, next(batches, 0), created=time.time() + 1000)

            fake_dcs.on_page(add)
            assert isinstance(created, TaskCreated)
            assert await dcs.find(an_order(), 0.0) == TaskFound(created.instance_id, task_status="RUNNING"), added


async def test_a_list_that_keeps_moving_is_no_proof() -> None:
    """It is read anew a few times, then the call has failed."""
    async with service(largest_page=50) as (dcs, fake_dcs):
        tasks = add_tasks(fake_dcs, 400)
        fake_dcs.on_page(lambda: delete([tasks.pop()]))
        result = await dcs.find(an_order(), 0.0)
        assert isinstance(result, CallError)
        assert (result.kind, result.label, len(fake_dcs.calls)) == (ErrorKind.RETRY, "pages", 8)


async def test_a_page_that_is_too_large_is_read_again_at_half_the_limit() -> None:
    """One row is never too large; all rows are seen."""
    told: Told = []
    async with service(told) as (dcs, fake_dcs):
        created = await dcs.create(an_order(), go)
        add_tasks(fake_dcs, 900, description="x" * 1000)
        assert isinstance(created, TaskCreated)
        assert await dcs.find(an_order(), 0.0) == TaskFound(created.instance_id, task_status="RUNNING")
        assert [label for _, label in told] == ["200", "oversize", "200", "200", "200"]


FORMS = [
    ("trimmed", "thrc ", "mine"),
    ("composed", "Gro\u0308\u00dfe", "mine"),
    ("escaped", "a & b", "<mine> & yours"),
    ("lower", "DCS-Migration", "Mine"),
    ("joined", "a  b", "mine  and\tyours"),
    ("three bytes", "Umzug \U0001f680", "\U0001f680"),
    ("longer", "th rc", "mine"),
]


@pytest.mark.parametrize(("form", "name", "description"), FORMS)
@pytest.mark.parametrize("fuzzy_name", [True, False])
@pytest.mark.parametrize("descriptions", [True, False])
async def test_a_task_is_found_in_every_form_of_its_texts(
    form: str, name: str, description: str, fuzzy_name: bool, descriptions: bool
) -> None:
    """Also if the list's filter compares what was sent with what was kept; also before what may be a first create."""
    order = an_order("thrc", description=description)
    order = migration(
        Request(request_id="r-1", project_id=PROJECT, task=order.task.model_copy(update={"name": name})),
        default_region="cn-north-4",
        with_marker=True,
    )
    async with service(text_form=form, fuzzy_name=fuzzy_name, descriptions=descriptions) as (dcs, fake_dcs):
        created = await dcs.create(order, go)
        add_tasks(fake_dcs, 20)
        assert isinstance(created, TaskCreated)
        found = TaskFound(created.instance_id, task_status="RUNNING")
        for may_exist in (True, False):
            assert await dcs.find(order, time.time() + 1000, may_exist=may_exist) == found


async def test_without_the_name_filter_only_small_lists_are_read_and_only_if_a_task_may_exist() -> None:
    """A usual name costs one call on a first delivery; an unusual one, or a repeat, at most five."""
    async with service(largest_page=50) as (dcs, fake_dcs):
        add_tasks(fake_dcs, 250)
        for name, may_exist, calls in (
            *(("new", False, 1), ("a-name_1", False, 1), ("a-name_1", True, 5)),
            *(("x y", False, 5), ("A-name", False, 5), ("x" * 65, False, 5)),
        ):
            before = len(fake_dcs.calls)
            assert await dcs.find(an_order(name), 0.0, may_exist=may_exist) == TaskNotFound()
            assert len(fake_dcs.calls) - before == calls, name


@pytest.mark.parametrize(("gone", "description"), [(10, "x"), (0, "\U0001f680" * 1000)], ids=["moved", "oversized"])
async def test_without_the_name_filter_rows_that_move_and_large_ones_use_up_no_pages(
    gone: int, description: str
) -> None:
    """The bound is of pages that were read: a list within it is looked through."""
    order = an_order("A name")
    async with service(text_form="lower", fuzzy_name=False, largest_page=None if not gone else 60) as (dcs, fake_dcs):
        created = await dcs.create(order, go)
        assert isinstance(created, TaskCreated)
        newer = add_tasks(fake_dcs, 200, description=description)
        fake_dcs.on_page(lambda: delete([newer.pop() for _ in range(gone)]) if len(newer) > 170 else None)
        assert await dcs.find(order, time.time(), may_exist=True) == TaskFound(
            created.instance_id, task_status="RUNNING"
        )


async def test_without_the_name_filter_a_list_that_keeps_moving_is_no_proof() -> None:
    """As with it."""
    async with service(largest_page=50) as (dcs, fake_dcs):
        tasks = add_tasks(fake_dcs, 120, an_order("other"))
        fake_dcs.on_page(lambda: delete([tasks.pop()]))
        result = await dcs.find(an_order(), 0.0, may_exist=True)
        assert isinstance(result, CallError)
        assert (result.kind, result.label) == (ErrorKind.RETRY, "pages")


async def test_a_name_that_is_too_long_for_a_url_is_looked_for_in_the_whole_list() -> None:
    """It is no reason for doubt: such a task is found, or its absence is certain."""
    order = an_order("\u8fc1" * 1024)
    async with service() as (dcs, fake_dcs):
        add_tasks(fake_dcs, 3)
        assert await dcs.find(order, 0.0) == TaskNotFound()
        created = await dcs.create(order, go)
        assert isinstance(created, TaskCreated)
        assert await dcs.find(order, 0.0, may_exist=True) == TaskFound(created.instance_id, task_status="RUNNING")


async def test_a_task_of_another_name_is_asked_for_its_networks() -> None:
    """Our marker and our networks: ours. Our marker on other networks: the request id belongs to another task."""
    async with service() as (dcs, fake_dcs):
        created = await dcs.create(an_order("first"), go)
        assert isinstance(created, TaskCreated)
        assert await dcs.find(an_order("second"), 0.0, may_exist=True) == TaskFound(
            created.instance_id, task_status="RUNNING"
        )
        other = an_order("second", vpc_id="another")
        assert await dcs.find(other, 0.0, may_exist=True) == ConflictingTask((created.instance_id,))
        assert [call.operation for call in fake_dcs.calls[1:]] == ["list", "list", "show"] * 2


@pytest.mark.parametrize("description", ["m", f"{STEP} 3 von 7", "#rq-mine"])
@pytest.mark.parametrize("descriptions", [True, False])
async def test_a_task_that_somebody_else_made_is_not_adopted(description: str | None, descriptions: bool) -> None:
    """A task of the same name and networks, made in the console a moment ago."""
    own = f"{STEP} 4 von 7"
    async with service(descriptions=descriptions) as (dcs, fake_dcs):
        add_tasks(fake_dcs, 1, description=description)
        assert await dcs.find(an_order(description=own), time.time(), may_exist=True) == TaskNotFound()


@pytest.mark.parametrize("description", [None, "", STEP[:40]])
@pytest.mark.parametrize("descriptions", [True, False])
async def test_a_task_that_shows_no_more_than_a_beginning_is_in_doubt(
    description: str | None, descriptions: bool
) -> None:
    """It may be all that the service keeps; a task that is older than the request is another's."""
    async with service(descriptions=descriptions) as (dcs, fake_dcs):
        (task,) = add_tasks(fake_dcs, 1, description=description)
        order = an_order(description=f"{STEP} 4 von 7")
        assert await dcs.find(order, time.time()) == SeveralTasks((task.task_id,))
        assert await dcs.find(order, time.time() + 100) == TaskNotFound()


@pytest.mark.parametrize("limit", [64, 128, 129, 130, 214])
@pytest.mark.parametrize("descriptions", [True, False])
async def test_a_task_whose_description_is_cut_is_found(limit: int, descriptions: bool) -> None:
    """Within a character too. An older one may be of an earlier message with this id: it is not adopted."""
    order = an_order(description="Größe 🚀 " * 15)
    async with service(description_bytes=limit, descriptions=descriptions) as (dcs, fake_dcs):
        created = await dcs.create(order, go)
        assert isinstance(created, TaskCreated)
        found = TaskFound(created.instance_id, task_status="RUNNING")
        assert await dcs.find(order, time.time(), was_sent=True) == found
        assert await dcs.find(order, time.time()) == SeveralTasks((created.instance_id,))
        assert await dcs.find(order, time.time() + 100, was_sent=True) == SeveralTasks((created.instance_id,))
        other = an_order(description="Größe 🚀 " * 15, subnet_id="another")
        assert await dcs.find(other, time.time()) == TaskNotFound()
        assert all(call.operation != "create" for call in fake_dcs.calls[1:])


@pytest.mark.parametrize("limit", [40, 64, 255])
async def test_a_cut_task_of_another_request_of_this_process_is_not_taken(limit: int) -> None:
    """Nor does it stand in the way: whose it is, is known from the answer to its create."""
    text = "Größe 🚀 " * 50
    async with service(description_bytes=limit) as (dcs, fake_dcs):
        first, second = (an_order(request_id=name, description=text) for name in ("A", "B"))
        await dcs.create(first, go)
        for was_sent in (True, False):
            assert await dcs.find(second, time.time(), was_sent=was_sent) == TaskNotFound()
        (task,) = add_tasks(fake_dcs, 1, first, description=text.encode()[:limit].decode(errors="replace"))
        assert await dcs.find(second, time.time()) == SeveralTasks((task.task_id,)), "made by another process"


async def test_half_an_emoji_in_a_list_is_read() -> None:
    """JSON's `\\ud83d` without its other half is no text, but the rows beside it count."""
    rows = [{"task_id": f"t{number}", "task_name": "thrc", "description": "x"} for number in range(2)]
    marker = an_order().marker
    text = json.dumps({"migration_tasks": rows}).replace('"x"', f'"\\ud83d {marker}"', 1)
    reply = read_reply(text.encode(), ListReply)
    assert reply is not None
    assert [row.description for row in reply.migration_tasks] == [f"? {marker}", "x"]
    for broken in (b"", b"{}", b"[]", b"<html>", text[:-3].encode(), b"\xff"):
        assert read_reply(broken, ListReply) is None


async def test_several_tasks_with_the_marker_are_all_named() -> None:
    """No guess."""
    async with service() as (dcs, fake_dcs):
        for _ in range(2):
            await dcs.create(an_order(), go)
        assert await dcs.find(an_order(), 0.0) == SeveralTasks(tuple(sorted(task.task_id for task in fake_dcs.tasks)))


async def test_row_of_a_created_task_is_read_by_one_list_call() -> None:
    """Among tasks of the same name; none if the task is gone, an error if the list is refused."""
    told: Told = []
    async with service(told, description_bytes=40) as (dcs, fake_dcs):
        order, calls = an_order(description="x" * 50), TaskCalls(dcs)
        add_tasks(fake_dcs, 30, order)
        created = await dcs.create(order, go)
        assert isinstance(created, TaskCreated)
        row = await calls.row(order, created.instance_id)
        assert isinstance(row, TaskRow)
        assert (row.task_id, row.description) == (created.instance_id, "x" * 40)
        assert await calls.row(order, "another") is None
        assert told == [("create", "200"), ("list", "200"), ("list", "200")]
        await fake_dcs.apply(forbidden=["list"])
        refused = await calls.row(order, created.instance_id)
        assert isinstance(refused, CallError)
        assert refused.kind is ErrorKind.FORBIDDEN


@pytest.mark.parametrize("status", STATUS_WORDS)
async def test_a_task_is_found_in_every_status(status: str) -> None:
    """It was created, also if it failed or was deleted since: creating it again would be a second task."""
    async with service() as (dcs, fake_dcs):
        (task,) = add_tasks(fake_dcs, 1, an_order(), status=status)
        assert await dcs.find(an_order(), 0.0) == TaskFound(task.task_id, task_status=status)


async def test_rows_without_description_are_resolved_by_the_detail_call() -> None:
    """Older services leave it out; the passwords in the detail reply stay where they are."""
    async with service(descriptions=False) as (dcs, _):
        created = await dcs.create(an_order(), go)
        await dcs.create(an_order(request_id="other"), go)
        sighting = await dcs.find(an_order(), 0.0)
        assert isinstance(created, TaskCreated)
        assert isinstance(sighting, TaskFound)
        assert sighting.instance_id == created.instance_id
        assert PLAIN_TEXT_PASSWORD not in repr(sighting)


async def test_without_marker_name_networks_and_time_decide() -> None:
    """An older task, and one in another network, are not ours."""
    ours = an_order(with_marker=False)
    async with service(dates="slashes") as (dcs, fake_dcs):
        await dcs.create(an_order(with_marker=False, vpc_id="6e37b3be-950a-48e1-b498-65b63d336481"), go)
        old = an_order(with_marker=False)
        fake_dcs.add_task(MigrationTask(PROJECT, created=1.0, **json.loads(old.body)))
        created = await dcs.create(ours, go)
        sighting = await dcs.find(ours, time.time())
        assert isinstance(created, TaskCreated)
        assert sighting == TaskFound(created.instance_id, task_status="RUNNING")


@pytest.mark.parametrize("call", ["list", "show"])
async def test_a_look_up_that_is_forbidden_is_a_fault(call: str) -> None:
    """Not an absence."""
    async with service(forbidden=[call], descriptions=False) as (dcs, _):
        await dcs.create(an_order(), go)
        sighting = await dcs.find(an_order(), 0.0)
        assert isinstance(sighting, CallError)
        assert sighting.kind is ErrorKind.FORBIDDEN


async def test_a_task_that_only_the_list_shows_is_not_there() -> None:
    """DCS.4133 from the detail call: it was deleted meanwhile. With our marker it existed, and is not created again."""
    async with service(descriptions=False, operation_scripts={"show": ["error 400 DCS.4133"]}) as (dcs, fake_dcs):
        created = await dcs.create(an_order(), go)
        assert isinstance(created, TaskCreated)
        assert await dcs.find(an_order(), 0.0) == TaskNotFound()
        await fake_dcs.apply(descriptions=True)
        assert await dcs.find(an_order("x"), 0.0, may_exist=True) == SeveralTasks((created.instance_id,))


@pytest.mark.parametrize("step", ["html", "cut", "hang", "error 500 DCS.5000"])
async def test_a_look_up_that_fails_is_no_absence(step: str) -> None:
    """Whatever is not a page of rows is a fault that may pass."""
    async with service(deadline=0.3, operation_scripts={"list": [step]}) as (dcs, _):
        sighting = await dcs.find(an_order(), 0.0)
        assert isinstance(sighting, CallError)
        assert sighting.kind is ErrorKind.RETRY

"""Fault steps: parsed, and what a caller sees of each over a real socket."""

import asyncio
import json
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

from schemas.dcs import read_error
from tests.unit.tools.fake_dcs.calls import CREATE, FIELDS, LIST, ask
from worker.policy import error_table
from worker.tools.fake_dcs import FakeDcs, FakeDcsSettings
from worker.tools.fake_dcs.faults import parse_step
from worker.tools.fake_dcs.named_faults import NAMED_FAULTS, NamedFault


@pytest.fixture
def clock() -> Callable[[], float]:
    """The real time: `retry at` is compared with the date of the answer."""
    return time.time


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def _post(client: aiohttp.ClientSession, **options: Any) -> tuple[int, bytes, Any]:
    async with client.post(CREATE, json=FIELDS, allow_redirects=False, **options) as reply:
        return reply.status, await reply.read(), reply.headers


@pytest.mark.parametrize(
    ("text", "kind", "creates", "status", "code"),
    [
        ("ok", "ok", True, 200, ""),
        ("slow 0.5", "slow", True, 200, ""),
        ("fail", "fail", True, 200, ""),
        ("create late 3", "create late", False, 200, ""),
        ("drop", "drop", False, 200, ""),
        ("create then drop", "drop", True, 200, ""),
        ("create then hang", "hang", True, 200, ""),
        ("no id", "no id", False, 200, ""),
        ("error 500", "error", False, 500, ""),
        ("create then error 504 APIGW.0201", "error", True, 504, "APIGW.0201"),
        ("throttle", "throttle", False, 429, ""),
        ("reply 200", "reply", False, 200, ""),
        ("throttle user", "reply", False, 429, ""),
        ("create then task exists", "reply", True, 409, ""),
    ],
)
def test_step_is_parsed(text: str, kind: str, creates: bool, status: int, code: str) -> None:
    """Every line of the table becomes its kind."""
    step = parse_step(text)

    assert (step.text, step.kind, step.creates, step.status, step.code) == (text, kind, creates, status, code)


def test_step_arguments_are_parsed() -> None:
    """Durations, windows, bodies and both forms of Retry-After are parsed."""
    throttle = parse_step("throttle 10/30 second retry after 7")
    reply = parse_step('reply 503 {"error": {"code": 1}} retry at 9')

    assert parse_step("create late 3").seconds == 3.0
    assert (throttle.window, throttle.retry_form, throttle.retry_seconds) == ("10/30 second", "after", 7)
    assert (reply.body, reply.retry_form, reply.retry_seconds) == ('{"error": {"code": 1}}', "at", 9)


@pytest.mark.parametrize(
    "text",
    ["", "OK", "explode", "slow", "slow -1", "create then ok", "error 99", "throttle 5/day", "drop retry after 1"],
)
def test_invalid_step_is_rejected(text: str) -> None:
    """A misspelt step is an error that quotes it."""
    with pytest.raises(ValueError, match="is not a fault step"):
        parse_step(text)


@pytest.mark.parametrize("creates", [False, True])
@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("drop", aiohttp.ClientOSError),
        ("close", aiohttp.ServerDisconnectedError),
        ("cut", aiohttp.ClientPayloadError),
    ],
)
async def test_connection_faults_are_distinct(
    fake_dcs: FakeDcs, client: aiohttp.ClientSession, step: str, error: type[Exception], creates: bool
) -> None:
    """Reset, orderly close and half a body are distinct; the task exists only if the step says so."""
    await fake_dcs.apply(scripts={"x": [f"create then {step}" if creates else step]})

    with pytest.raises(error):
        await _post(client)

    assert len(fake_dcs.tasks) == creates
    (call,) = fake_dcs.calls
    assert call.status == (200 if step == "cut" else None)


@pytest.mark.parametrize("creates", [False, True])
@pytest.mark.parametrize(
    ("step", "status", "body"),
    [
        ("html", 200, b"<html>"),
        ("no id", 200, b"{}"),
        ("oversize", 200, b'{"instance_id": "'),
        ("redirect", 302, b""),
        ("error 500 DCS.5000", 500, b'{"error_code": "DCS.5000"'),
        ("error 504", 504, b'{"error_code": "APIGW.0201"'),
        ("throttle", 429, b'{"error_code": "APIGW.0308"'),
        ('reply 200 {"instance_id": 7}', 200, b'{"instance_id": 7}'),
        ("task exists", 409, b'{"NeutronError": {"message": "Security group rule already exists.'),
    ],
)
async def test_answer_faults_match_their_step(
    fake_dcs: FakeDcs, client: aiohttp.ClientSession, step: str, status: int, body: bytes, creates: bool
) -> None:
    """Each answer is as its step says, with a request id, before or after the task was created."""
    await fake_dcs.apply(scripts={"x": [f"create then {step}" if creates else step]})

    seen, content, headers = await _post(client)

    assert (seen, content[: len(body)]) == (status, body)
    assert headers["X-Request-Id"] == fake_dcs.calls[0].request_id
    assert len(fake_dcs.tasks) == creates
    assert fake_dcs.calls[0].status == status


@pytest.mark.parametrize("step", ["hang", "create then hang"])
async def test_hanging_call_ends_with_its_caller(fake_dcs: FakeDcs, client: aiohttp.ClientSession, step: str) -> None:
    """The call hangs until the caller gives up; the fake DCS notices that."""
    await fake_dcs.apply(scripts={"x": [step]})

    with pytest.raises(TimeoutError):
        await _post(client, timeout=aiohttp.ClientTimeout(0.2))

    await _until(lambda: len(fake_dcs.calls) == 1 and fake_dcs.state.stats()["under_way"] == 0)
    assert len(fake_dcs.tasks) == (step == "create then hang")
    assert fake_dcs.calls[0].status is None


async def test_late_task_appears_after_timeout(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """The task is created after the caller has given up."""
    await fake_dcs.apply(scripts={"x": ["create late 0.6"]})

    with pytest.raises(TimeoutError):
        await _post(client, timeout=aiohttp.ClientTimeout(0.2))

    assert fake_dcs.tasks == []
    await _until(lambda: len(fake_dcs.tasks) == 1)


async def test_slow_answer_comes_after_task(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """The task exists long before the answer."""
    await fake_dcs.apply(scripts={"x": ["slow 0.2"]})

    call = asyncio.create_task(_post(client))
    await _until(lambda: len(fake_dcs.tasks) == 1)

    assert not call.done()
    status, content, _ = await call
    assert (status, json.loads(content)["instance_id"]) == (200, fake_dcs.tasks[0].task_id)


async def test_oversize_answer_is_valid(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """More than 1 MiB of valid JSON with the right id."""
    await fake_dcs.apply(scripts={"x": ["create then oversize"]})

    _, content, _ = await _post(client)

    assert len(content) > 1024 * 1024
    assert json.loads(content)["instance_id"] == fake_dcs.tasks[0].task_id


async def test_throttled_call_names_window(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """The text has the window; Retry-After has seconds or the date of the same moment."""
    await fake_dcs.apply(scripts={"x": ["throttle 10/30 second retry after 7", "throttle retry at 60"]})

    _, content, headers = await _post(client)
    _, _, dated = await _post(client)

    assert json.loads(content)["error_msg"].endswith("policy user over ratelimit,limit:10,time:30 second")
    assert headers["Retry-After"] == "7"
    ahead = parsedate_to_datetime(dated["Retry-After"]) - parsedate_to_datetime(dated["Date"])
    assert 58 <= ahead.total_seconds() <= 61


async def test_script_plays_one_step_per_call(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """One step per POST of the name; the last repeats; each call records its step."""
    await fake_dcs.apply(scripts={"x": ["error 503", "no id", "ok"]})

    statuses = [(await _post(client))[0] for _ in range(4)]

    assert statuses == [503, 200, 200, 200]
    assert [call.step for call in fake_dcs.calls] == ["error 503", "no id", "ok", "ok"]
    assert len(fake_dcs.tasks) == 2


async def test_lookups_have_scripts(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """List and show play the script of their operation."""
    await fake_dcs.apply(operation_scripts={"list": ["error 500", "cut", "ok"], "show": ["html", "ok"]})
    await _post(client)
    detail = f"/v2/p/migration-task/{fake_dcs.tasks[0].task_id}"

    async with client.get("/v2/p/migration-tasks") as failed:
        assert failed.status == 500
    async with client.get("/v2/p/migration-tasks") as broken:
        with pytest.raises(aiohttp.ClientPayloadError):
            await broken.read()
    async with client.get("/v2/p/migration-tasks") as well:
        assert (await well.json())["count"] == 1
    async with client.get(detail) as page:
        assert page.content_type == "text/html"
    async with client.get(detail) as shown:
        assert (await shown.json())["task_name"] == "x"


async def test_named_fault_of_gateway_meets_all_calls(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """Each answer has the request id of its call; a fault of creates, or after the create, lets look-ups pass."""
    await fake_dcs.apply(faults={"unpublished api": 1})
    answers = [await ask(client, method, path, json=FIELDS) for method, path in (("POST", CREATE), ("GET", LIST))]

    assert [(status, body["error_code"]) for status, body in answers] == [(404, "APIGW.0101")] * 2
    assert [body["request_id"] for _, body in answers] == [call.request_id for call in fake_dcs.calls]
    for passed in ("task exists", "create then backend away"):
        await fake_dcs.apply(faults={"unpublished api": None, passed: 0.5})
        assert [(await ask(client, "GET", LIST))[0] for _ in range(20)] == [200] * 20


@pytest.mark.parametrize("fault", NAMED_FAULTS, ids=lambda fault: fault.name)
def test_worker_reads_code_and_text_of_named_fault(fault: NamedFault) -> None:
    """No body has a shape that the worker cannot read; only the conflict of another service has no code."""
    error = read_error(fault.body.encode())

    assert error.error_msg
    assert error_table.is_service_code(error.error_code) is (fault.name != "task exists")


async def test_stop_ends_every_wait() -> None:
    """A hanging call, a slow one, a late creation and a long latency do not delay the stop."""
    scripts = {"hang": ["hang"], "slow": ["slow 60"], "late": ["create late 60"]}
    async with aiohttp.ClientSession() as client:
        async with asyncio.timeout(3), FakeDcs(FakeDcsSettings.model_validate({"scripts": scripts})) as fake_dcs:
            calls = [
                asyncio.create_task(client.post(fake_dcs.url + CREATE, json={**FIELDS, "name": n})) for n in scripts
            ]
            await _until(lambda: len({call.step for call in fake_dcs.calls} - {None}) == 3)
            await fake_dcs.apply(latency=60)
            calls.append(asyncio.create_task(client.post(fake_dcs.url + CREATE, json=FIELDS)))
            await _until(lambda: len(fake_dcs.calls) == 4)
        results = await asyncio.gather(*calls, return_exceptions=True)
        for result in results:
            if isinstance(result, aiohttp.ClientResponse):
                result.release()
    assert [task.name for task in fake_dcs.tasks] == ["slow"]

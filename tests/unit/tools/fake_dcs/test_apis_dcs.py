"""The fake DCS as a service: what it accepts and what it refuses."""

import asyncio
import io

import aiohttp
import pytest

from tests.fakes.clock import FakeClock
from tests.unit.tools.fake_dcs.calls import CREATE, FIELDS, LIST, ask, listed_names
from worker.tools.fake_dcs import FakeDcs
from worker.tools.fake_dcs.tasks import PRIVATE_IP


async def test_a_task_is_created(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """The reply has the id and, unless switched off, a job id."""
    status, created = await ask(client, "POST", CREATE, json=FIELDS)
    await fake_dcs.apply(job_id=False)
    _, without = await ask(client, "POST", CREATE, json=FIELDS)

    assert (status, created.keys(), without.keys()) == (200, {"instance_id", "job_id"}, {"instance_id"})
    assert [task.task_id for task in fake_dcs.tasks] == [created["instance_id"], without["instance_id"]]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "DCS.4004"),
        (b"{", "DCS.4005"),
        (b"[]", "DCS.4005"),
        (b"\xff", "DCS.4005"),
        (b"[" * 100_000, "DCS.4005"),
        (b"{}", "DCS.4800"),
        (b'{"name": "", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}', "DCS.4800"),
        (b'{"name": "x", "vpc_id": 7, "subnet_id": "s", "security_group_id": "g"}', "DCS.4013"),
        (b'{"name": "x", "vpc_id": "v", "subnet_id": null, "security_group_id": "g"}', "DCS.4016"),
        (b'{"name": "x", "vpc_id": "v", "subnet_id": "s"}', "DCS.4014"),
        (b'{"name":"x","vpc_id":"v","subnet_id":"s","security_group_id":"g","description":1}', "DCS.4800"),
    ],
)
async def test_invalid_body_is_rejected(
    fake_dcs: FakeDcs, client: aiohttp.ClientSession, body: bytes, code: str
) -> None:
    """A body that is not the documented object is a 400 in the documented shape, and creates nothing."""
    status, error = await ask(client, "POST", CREATE, data=body, headers={"Content-Type": "application/json"})

    assert (status, error["error_code"], error["error_ext_msg"]) == (400, code, None)
    assert error["error_msg"]
    assert fake_dcs.tasks == []
    assert fake_dcs.calls[0].error_code == code


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"{LIST}?limit=0", 400, "DCS.4800"),
        ("GET", f"{LIST}?limit=1001", 400, "DCS.4800"),
        ("GET", f"{LIST}?limit=many", 400, "DCS.4800"),
        ("GET", f"{LIST}?offset=-1", 400, "DCS.4800"),
        ("GET", "/v2/p/migration-task/unknown", 400, "DCS.4133"),
        ("GET", "/v2/bad%20project/migration-tasks", 400, "DCS.4002"),
        ("GET", "/v2/p/elsewhere", 404, "APIGW.0101"),
        ("GET", CREATE, 405, "DCS.5001"),
        ("DELETE", LIST, 405, "DCS.5001"),
    ],
)
async def test_invalid_call_is_rejected(
    client: aiohttp.ClientSession, method: str, path: str, status: int, code: str
) -> None:
    """Limits, unknown ids, paths and methods have their documented statuses and codes."""
    seen, error = await ask(client, method, path)

    assert (seen, error["error_code"]) == (status, code)


async def test_other_content_type_is_rejected(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """JSON with another content type is rejected; a charset is accepted."""
    body = b'{"name":"x","vpc_id":"v","subnet_id":"s","security_group_id":"g"}'
    refused, error = await ask(client, "POST", CREATE, data=body, headers={"Content-Type": "text/plain"})
    charset = {"Content-Type": "application/json;charset=utf-8"}
    accepted, _ = await ask(client, "POST", CREATE, data=body, headers=charset)

    assert (refused, error["error_code"], accepted) == (400, "DCS.4005", 200)
    assert len(fake_dcs.tasks) == 1


async def test_body_over_12_mb_is_413(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """A body over the gateway's limit is a 413."""
    body = io.BytesIO(b" " * (12 * 1024 * 1024 + 1))
    status, error = await ask(client, "POST", CREATE, data=body, headers={"Content-Type": "application/json"})

    assert (status, error["error_code"]) == (413, "APIGW.0201")
    assert fake_dcs.tasks == []


async def test_tasks_belong_to_their_project(client: aiohttp.ClientSession) -> None:
    """A task is listed and shown in its own project only."""
    _, created = await ask(client, "POST", CREATE, json=FIELDS)

    _, listed = await ask(client, "GET", "/v2/q/migration-tasks")
    status, _ = await ask(client, "GET", f"/v2/q/migration-task/{created['instance_id']}")

    assert (listed, status) == ({"count": 0, "migration_tasks": []}, 400)


async def test_task_is_listed_after_visibility_delay(
    fake_dcs: FakeDcs, client: aiohttp.ClientSession, clock: FakeClock
) -> None:
    """List and detail show a new task only after the visibility delay."""
    await fake_dcs.apply(visibility=30)
    _, created = await ask(client, "POST", CREATE, json=FIELDS)
    detail = f"/v2/p/migration-task/{created['instance_id']}"

    clock.now += 29.9
    assert (await listed_names(client), (await ask(client, "GET", detail))[0]) == ([], 400)
    clock.now += 0.1
    assert (await listed_names(client), (await ask(client, "GET", detail))[0]) == (["x"], 200)


async def test_quota_rejects_and_recovers(fake_dcs: FakeDcs, client: aiohttp.ClientSession, clock: FakeClock) -> None:
    """Beyond the quota nothing is done, the answer names the window, and the next window admits again."""
    await fake_dcs.apply(quota={"limit": 2, "unit": "minute", "retry_after": 60})

    first = [(await ask(client, "POST", CREATE, json=FIELDS))[0] for _ in range(2)]
    async with client.post(CREATE, json=FIELDS) as reply:
        error, header = await reply.json(), reply.headers["Retry-After"]
    clock.now += 60

    assert (first, reply.status, error["error_code"], header) == ([200, 200], 429, "APIGW.0308", "60")
    assert "policy user over ratelimit,limit:2,time:1 minute" in error["error_msg"]
    assert len(fake_dcs.tasks) == 2
    assert (await ask(client, "POST", CREATE, json=FIELDS))[0] == 200


async def test_latency_grows_with_load(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """Within its capacity every call takes the latency; four times as many calls take four times as long."""
    await fake_dcs.apply(latency=0.05, capacity=2)
    loop = asyncio.get_running_loop()

    async def seconds_of(calls: int) -> float:
        start = loop.time()
        await asyncio.gather(*(ask(client, "GET", LIST) for _ in range(calls)))
        return loop.time() - start

    within, beyond = await seconds_of(2), await seconds_of(8)

    assert 0.05 <= within < beyond
    assert beyond >= 0.2


async def _life(client: aiohttp.ClientSession, created: dict[str, str]) -> tuple[dict[str, object], list[object]]:
    """The job of a created task, and the status that list and detail show."""
    _, job = await ask(client, "GET", f"/v2/p/jobs/{created['job_id']}")
    _, listed = await ask(client, "GET", LIST)
    _, shown = await ask(client, "GET", f"/v2/p/migration-task/{created['instance_id']}")
    (row,) = [row for row in listed["migration_tasks"] if row["task_id"] == created["instance_id"]]
    assert row["ecs_tenant_private_ip"] == shown["ecs_tenant_private_ip"]
    return job, [row["status"], shown["status"], row["ecs_tenant_private_ip"], row["error_message"]]


async def test_task_is_creating_until_it_is_provisioned(
    fake_dcs: FakeDcs, client: aiohttp.ClientSession, clock: FakeClock
) -> None:
    """Its job runs as long, and its private address is known afterwards only."""
    await fake_dcs.apply(provisioning=30)
    _, created = await ask(client, "POST", CREATE, json=FIELDS)

    clock.now += 29
    job, seen = await _life(client, created)
    assert (job["status"], job["end_time"], job["fail_reason"]) == ("RUNNING", None, None)
    assert seen == ["CREATING", "CREATING", None, None]
    clock.now += 1
    job, seen = await _life(client, created)
    assert (job["status"], job["fail_reason"]) == ("SUCCESS", None)
    assert (job["begin_time"], job["end_time"]) == ("1700000000000", "1700000030000")
    assert seen == ["RUNNING", "RUNNING", PRIVATE_IP, None]


async def test_creation_fails_after_it_was_accepted(
    fake_dcs: FakeDcs, client: aiohttp.ClientSession, clock: FakeClock
) -> None:
    """The create call succeeds; later the job is FAIL with its reason, and the task is in ERROR."""
    await fake_dcs.apply(provisioning=30, scripts={"x": ["fail no addresses left"]})
    status, created = await ask(client, "POST", CREATE, json=FIELDS)

    job, seen = await _life(client, created)
    assert (status, job["status"], seen) == (200, "RUNNING", ["CREATING", "CREATING", None, None])
    clock.now += 30
    job, seen = await _life(client, created)
    assert (job["status"], job["fail_reason"]) == ("FAIL", "no addresses left")
    assert seen == ["ERROR", "ERROR", None, "no addresses left"]


async def test_job_is_known_in_its_project_only(client: aiohttp.ClientSession) -> None:
    """Elsewhere, and for an unknown id, the call is a 400."""
    _, created = await ask(client, "POST", CREATE, json=FIELDS)

    for path in (f"/v2/q/jobs/{created['job_id']}", "/v2/p/jobs/unknown"):
        status, error = await ask(client, "GET", path)
        assert (status, error["error_code"]) == (400, "111400063")


async def test_descriptions_are_cut(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """A limit in bytes cuts what list and detail show; the body stays as received."""
    await fake_dcs.apply(description_bytes=5)
    _, created = await ask(client, "POST", CREATE, json={**FIELDS, "description": "longer"})

    _, shown = await ask(client, "GET", f"/v2/p/migration-task/{created['instance_id']}")
    assert shown["description"] == "longe"
    assert fake_dcs.tasks[0].body["description"] == "longer"

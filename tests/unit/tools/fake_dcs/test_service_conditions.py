"""The fake DCS's moods: how it is slow, scarce, forbidding, odd or away."""

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.fake_clock import FakeClock
from worker.tools.fake_dcs import FakeDcs, MigrationTask

CREATE = "/v2/p/migration/instance"
LIST = "/v2/p/migration-tasks"
FIELDS = {"name": "x", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}


async def _ask(client: aiohttp.ClientSession, method: str, path: str, **options: Any) -> tuple[int, Any]:
    async with client.request(method, path, **options) as reply:
        return reply.status, await reply.json()


async def _names(client: aiohttp.ClientSession, query: str = "") -> list[str]:
    _, listed = await _ask(client, "GET", LIST + query)
    return [row["task_name"] for row in listed["migration_tasks"]]


async def test_task_is_listed_after_visibility_delay(
    fake_dcs: FakeDcs, client: aiohttp.ClientSession, clock: FakeClock
) -> None:
    """List and detail show a new task only after the visibility delay."""
    await fake_dcs.apply(visibility=30)
    _, created = await _ask(client, "POST", CREATE, json=FIELDS)
    detail = f"/v2/p/migration-task/{created['instance_id']}"

    clock.now += 29.9
    assert (await _names(client), (await _ask(client, "GET", detail))[0]) == ([], 400)
    clock.now += 0.1
    assert (await _names(client), (await _ask(client, "GET", detail))[0]) == (["x"], 200)


async def test_quota_rejects_and_recovers(fake_dcs: FakeDcs, client: aiohttp.ClientSession, clock: FakeClock) -> None:
    """Beyond the quota nothing is done, the answer names the window, and the next window admits again."""
    await fake_dcs.apply(quota={"limit": 2, "unit": "minute", "retry_after": 60})

    first = [(await _ask(client, "POST", CREATE, json=FIELDS))[0] for _ in range(2)]
    async with client.post(CREATE, json=FIELDS) as reply:
        error, header = await reply.json(), reply.headers["Retry-After"]
    clock.now += 60

    assert (first, reply.status, error["error_code"], header) == ([200, 200], 429, "APIGW.0308", "60")
    assert "policy user over ratelimit,limit:2,time:1 minute" in error["error_msg"]
    assert len(fake_dcs.tasks) == 2
    assert (await _ask(client, "POST", CREATE, json=FIELDS))[0] == 200


async def test_latency_grows_with_load(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """Within its capacity every call takes the latency; four times as many calls take four times as long."""
    await fake_dcs.apply(latency=0.05, capacity=2)
    loop = asyncio.get_running_loop()

    async def seconds_of(calls: int) -> float:
        start = loop.time()
        await asyncio.gather(*(_ask(client, "GET", LIST) for _ in range(calls)))
        return loop.time() - start

    within, beyond = await seconds_of(2), await seconds_of(8)

    assert 0.05 <= within < beyond
    assert beyond >= 0.2


async def test_outage_answers_503(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """While unavailable nothing is done; the outage ends by a change of settings, or after its duration."""
    await fake_dcs.apply(down="unavailable")
    assert (await _ask(client, "POST", CREATE, json=FIELDS))[0] == 503
    await fake_dcs.apply(down="no")
    assert (await _ask(client, "POST", CREATE, json=FIELDS))[0] == 200
    await fake_dcs.apply(down="unavailable", down_seconds=0.3)
    assert (await _ask(client, "GET", LIST))[0] == 503
    async with asyncio.timeout(3):
        while (await _ask(client, "GET", LIST))[0] == 503:
            await fake_dcs.apply(visibility=0)
            await asyncio.sleep(0.01)
    assert len(fake_dcs.tasks) == 1


async def test_refused_connections(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """Open connections break and new ones are refused; then everything works again."""
    await _ask(client, "POST", CREATE, json=FIELDS)
    await fake_dcs.apply(down="refuse")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await client.post(CREATE, json=FIELDS)
    with pytest.raises(aiohttp.ClientConnectorError) as refused:
        await client.post(CREATE, json=FIELDS)
    assert isinstance(refused.value.os_error, ConnectionRefusedError)
    await fake_dcs.apply(down="no")

    assert await _names(client) == ["x"]


async def test_forbidden_operation_is_403(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """A user may be allowed to create but not to list."""
    await fake_dcs.apply(forbidden=["list", "show"])

    created, _ = await _ask(client, "POST", CREATE, json=FIELDS)
    listed, error = await _ask(client, "GET", LIST)
    shown, _ = await _ask(client, "GET", f"/v2/p/migration-task/{fake_dcs.tasks[0].task_id}")

    assert (created, listed, shown, error["error_code"]) == (200, 403, 403, "DCS.2003")


async def test_unusual_rows(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """Rows without description, dates of every style, and imports of the same name between them, paged as rows."""
    await _ask(client, "POST", CREATE, json={**FIELDS, "description": "d"})
    await fake_dcs.apply(descriptions=False, dates="nonsense", mixed_types=True)

    _, both = await _ask(client, "GET", LIST)
    _, second = await _ask(client, "GET", f"{LIST}?limit=1&offset=1")

    assert [row["migration_type"] for row in both["migration_tasks"]] == ["backupfile_import", "online_migration"]
    assert both["count"] == second["count"] == 2
    (row,) = second["migration_tasks"]
    assert (row["task_id"], "description" in row) == (fake_dcs.tasks[0].task_id, False)
    assert row["created_at"] == "the day before yesterday"


@pytest.mark.parametrize(
    ("dates", "listed", "shown"),
    [
        ("documented", "2023-11-14T22:13:20.000Z", "2023/11/14 22:13:20"),
        ("digits", "202311142213", "202311142213"),
        ("null", None, None),
    ],
)
async def test_date_styles(
    fake_dcs: FakeDcs, client: aiohttp.ClientSession, dates: str, listed: str | None, shown: str | None
) -> None:
    """List and detail have different date formats, as documented, or one unusual format."""
    await fake_dcs.apply(dates=dates)
    _, created = await _ask(client, "POST", CREATE, json=FIELDS)

    _, page = await _ask(client, "GET", LIST)
    _, detail = await _ask(client, "GET", f"/v2/p/migration-task/{created['instance_id']}")

    assert (page["migration_tasks"][0]["created_at"], detail["created_at"]) == (listed, shown)


async def test_added_tasks_are_listed_and_counted(
    fake_dcs: FakeDcs, client: aiohttp.ClientSession, clock: FakeClock
) -> None:
    """Tasks that no call created are listed by age, and several of one name are counted as repeated."""
    fake_dcs.add_task(MigrationTask("p", "old", created=clock.now - 60))
    fake_dcs.add_task(MigrationTask("p", "x", created=clock.now - 30, migration_type=None))
    fake_dcs.add_task(MigrationTask("p", "x", created=clock.now - 20))
    await _ask(client, "POST", CREATE, json=FIELDS)

    assert await _names(client) == ["x", "x", "x", "old"]
    assert fake_dcs.stats()["repeated_names"] == 1
    assert repr(fake_dcs) == "<FakeDcs <ServerState <TaskStore 4> <CallLog ended=2 in_flight=0>>>"

"""The fake DCS of the tests: outages, forbidden operations, unusual rows."""

import asyncio

import aiohttp
import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.faulty_dcs import FaultyDcs
from tests.unit.tools.fake_dcs.calls import (
    CREATE,
    FIELDS,
    LIST,
    ask,
    listed_names,
)
from worker.tools.fake_dcs import MigrationTask


async def test_outage_answers_503(fake_dcs: FaultyDcs, client: aiohttp.ClientSession) -> None:
    """While unavailable nothing is done; the outage ends by a change of settings, or after its duration."""
    await fake_dcs.apply(down="unavailable")
    assert (await ask(client, "POST", CREATE, json=FIELDS))[0] == 503
    await fake_dcs.apply(down="no")
    assert (await ask(client, "POST", CREATE, json=FIELDS))[0] == 200
    await fake_dcs.apply(down="unavailable", down_seconds=0.3)
    assert (await ask(client, "GET", LIST))[0] == 503
    async with asyncio.timeout(3):
        while (await ask(client, "GET", LIST))[0] == 503:
            await fake_dcs.apply(visibility=0)
            await asyncio.sleep(0.01)
    assert len(fake_dcs.tasks) == 1


async def test_refused_connections(fake_dcs: FaultyDcs, client: aiohttp.ClientSession) -> None:
    """Open connections break and new ones are refused; then everything works again."""
    await ask(client, "POST", CREATE, json=FIELDS)
    await fake_dcs.apply(down="refuse")
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await client.post(CREATE, json=FIELDS)
    with pytest.raises(aiohttp.ClientConnectorError) as refused:
        await client.post(CREATE, json=FIELDS)
    assert isinstance(refused.value.os_error, ConnectionRefusedError)
    await fake_dcs.apply(down="no")

    assert await listed_names(client) == ["x"]


async def test_forbidden_operation_is_403(fake_dcs: FaultyDcs, client: aiohttp.ClientSession) -> None:
    """A user may be allowed to create but not to list."""
    await fake_dcs.apply(forbidden=["list", "show"])

    created, _ = await ask(client, "POST", CREATE, json=FIELDS)
    listed, error = await ask(client, "GET", LIST)
    shown, _ = await ask(client, "GET", f"/v2/p/migration-task/{fake_dcs.tasks[0].task_id}")

    assert (created, listed, shown, error["error_code"]) == (200, 403, 403, "DCS.2003")


async def test_unusual_rows(fake_dcs: FaultyDcs, client: aiohttp.ClientSession) -> None:
    """Rows without description, dates of every style, and imports of the same name between them, paged as rows."""
    await ask(client, "POST", CREATE, json={**FIELDS, "description": "d"})
    await fake_dcs.apply(descriptions=False, dates="nonsense", mixed_types=True)

    _, both = await ask(client, "GET", LIST)
    _, second = await ask(client, "GET", f"{LIST}?limit=1&offset=1")

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
    fake_dcs: FaultyDcs, client: aiohttp.ClientSession, dates: str, listed: str | None, shown: str | None
) -> None:
    """List and detail have different date formats, as documented, or one unusual format."""
    await fake_dcs.apply(dates=dates)
    _, created = await ask(client, "POST", CREATE, json=FIELDS)

    _, page = await ask(client, "GET", LIST)
    _, detail = await ask(client, "GET", f"/v2/p/migration-task/{created['instance_id']}")

    assert (page["migration_tasks"][0]["created_at"], detail["created_at"]) == (listed, shown)


async def test_added_tasks_are_listed_and_counted(
    fake_dcs: FaultyDcs, client: aiohttp.ClientSession, clock: FakeClock
) -> None:
    """Tasks that no call created are listed by age, and several of one name are counted as repeated."""
    fake_dcs.add_task(MigrationTask("p", "old", created=clock.now - 60))
    fake_dcs.add_task(MigrationTask("p", "x", created=clock.now - 30, migration_type=None))
    fake_dcs.add_task(MigrationTask("p", "x", created=clock.now - 20))
    await ask(client, "POST", CREATE, json=FIELDS)

    assert await listed_names(client) == ["x", "x", "x", "old"]
    assert fake_dcs.stats()["repeated_names"] == 1


async def test_clock_offset_changes_date_header(fake_dcs: FaultyDcs, client: aiohttp.ClientSession) -> None:
    """The service's clock can run ahead of ours: its answers have its date."""
    await fake_dcs.apply(clock_offset=3600)

    async with client.get(LIST) as reply:
        assert reply.headers["Date"] == "Tue, 14 Nov 2023 23:13:20 GMT"


async def test_refused_connections_end_after_their_time(fake_dcs: FaultyDcs, client: aiohttp.ClientSession) -> None:
    """Connections are refused until the outage ends."""
    await fake_dcs.apply(down="refuse", down_seconds=0.5)
    with pytest.raises(aiohttp.ClientConnectorError):
        await ask(client, "GET", LIST)

    await fake_dcs.wait_until(lambda: fake_dcs.settings.down == "no", 3)

    assert (await ask(client, "GET", LIST))[0] == 200

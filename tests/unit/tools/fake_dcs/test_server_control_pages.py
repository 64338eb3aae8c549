"""The fake DCS's own pages: what it got, and settings at run time."""

import aiohttp
import pytest

from tests.unit.tools.fake_dcs.calls import CREATE, FIELDS, LIST, ask
from worker.tools.fake_dcs import FakeDcs, FakeDcsSettings

DESCRIBED = {**FIELDS, "description": "d"}


async def test_tasks_page_shows_tasks(client: aiohttp.ClientSession) -> None:
    """Every task with the body of its create; names created twice are counted."""
    for name in ("x", "y", "x"):
        await ask(client, "POST", CREATE, json={**DESCRIBED, "name": name})

    _, every = await ask(client, "GET", "/_tasks")
    _, named = await ask(client, "GET", "/_tasks?name=y")
    _, newest = await ask(client, "GET", "/_tasks?limit=1")

    assert (every["count"], every["repeated"]) == (3, {"p/x": 2})
    assert every["tasks"][0]["body"] == DESCRIBED
    assert [task["name"] for task in named["tasks"]] == ["y"]
    assert newest["tasks"] == every["tasks"][-1:]


async def test_calls_page_shows_no_secrets(client: aiohttp.ClientSession) -> None:
    """A call has its path, headers, body, step, status and duration; a token is a fingerprint."""
    await ask(client, "POST", CREATE, json=DESCRIBED, headers={"X-Auth-Token": "t" * 64})
    await ask(client, "GET", LIST + "?name=x&limit=5")

    _, shown = await ask(client, "GET", "/_calls")
    _, creates = await ask(client, "GET", "/_calls?operation=create&name=x")

    create, listing = shown["calls"]
    assert (create["operation"], create["project"], create["name"], create["status"]) == ("create", "p", "x", 200)
    assert (create["step"], '"description": "d"' in create["body"], create["seconds"] >= 0) == ("ok", True, True)
    assert create["headers"]["X-Auth-Token"].startswith("***")
    assert "t" * 64 not in str(shown)
    assert (listing["path"], listing["name"]) == (LIST + "?name=x&limit=5", "x")
    assert creates["calls"] == [create]


async def test_stats_page_counts_calls(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """Counters by operation and status."""
    await fake_dcs.apply(scripts={"bad": ["error 500"]})
    for name in ("x", "y", "bad"):
        await ask(client, "POST", CREATE, json={**DESCRIBED, "name": name})
    await ask(client, "GET", "/nowhere")

    _, stats = await ask(client, "GET", "/_stats")

    assert stats["calls"] == {"create": {"200": 2, "500": 1}, "other": {"404": 1}}
    assert (stats["tasks"], stats["under_way"], stats["repeated_names"]) == (2, 0, 0)


async def test_settings_change_over_http(client: aiohttp.ClientSession) -> None:
    """A merge patch takes effect at once, and secrets are not shown."""
    status, shown = await ask(client, "PUT", "/_settings", json={"auth": {"mode": "token", "token": "hidden-token"}})

    assert (status, shown["auth"]["mode"]) == (200, "token")
    assert "hidden-token" not in str(shown)
    assert (await ask(client, "GET", LIST))[0] == 401
    assert (await ask(client, "GET", LIST, headers={"X-Auth-Token": "hidden-token"}))[0] == 200


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"latncy": 1}', "latncy"),
        (b'{"scripts": {"a": ["explode"]}}', "not a fault step"),
    ],
)
async def test_invalid_patch_changes_nothing(
    fake_dcs: FakeDcs, client: aiohttp.ClientSession, body: bytes, complaint: str
) -> None:
    """An invalid patch is a 400 that names the problem, and has no effect."""
    status, text = await ask(client, "PUT", "/_settings", data=body)

    assert (status, complaint in text) == (400, True)
    assert fake_dcs.settings == FakeDcsSettings()

"""What a sender sees of requests that are known already: real worker, real broker, with and without Redis."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from schemas import names
from tests.fakes.servers import RedisServer
from tools.harness.parked_queue import PARKED, CommandLine, settings
from tools.harness.running_system import Event, RunningSystem, request, until


async def answer(system: RunningSystem, body: Mapping[str, Any]) -> Event:
    """Send a message, and wait for its event."""
    before = len(system.events)
    await system.publish(dict(body))
    await until(lambda: len(system.events) > before, 20)
    return system.events[before]


@pytest.mark.parametrize("has_claims", [False, True], ids=["no claims", "claims"])
async def test_events_tell_outcomes_of_one_request_id_apart(
    vhost: str, tmp_path: Path, redis_node: RedisServer, *, has_claims: bool
) -> None:
    """A typing error, a refusal, the corrected request, its copy, and another task under its id."""
    claims = {"WORKER_CLAIMS_URL": redis_node.url} if has_claims else {}
    async with RunningSystem(vhost, tmp_path) as system:
        await system.fake_dcs.apply({"scripts": {"a": ["error 400 DCS.4013", "ok"]}})
        worker = system.worker(**claims)
        await worker.ready()
        order = request("a", "a")
        bodies = (order | {"taks": {}}, order, order, order, request("b", "a"))
        events = [await answer(system, body) for body in bodies]

        told = [event.body.get("reason") or event.body["resolution"] for event in events]
        assert told == ["invalid_request", "rejected", "created", "created", "conflict"]
        ids = [event.properties.message_id for event in events]
        assert (ids[2] == ids[3], len(set(ids))) == (True, 4)
        assert [event.headers.get(names.REPEATED) for event in events] == [None, None, None, True, None]
        assert events[3].body == events[2].body
        lines = [line for line in worker.log() if line["event"] in ("request.succeeded", "request.failed")]
        assert [line.get("repeated") for line in lines] == [None, None, None, True, None]
        assert [line["level"] for line in lines] == ["warning", "warning", "info", "info", "warning"]
        assert [task.name for task in system.fake_dcs.tasks] == ["a"]


@pytest.mark.parametrize("has_claims", [False, True], ids=["no claims", "claims"])
async def test_copies_of_parked_request_are_answered_until_it_is_replayed(
    vhost: str, tmp_path: Path, redis_node: RedisServer, *, has_claims: bool
) -> None:
    """They are not parked again. After the replay there is one task, and copies get its event."""
    claims = {"WORKER_CLAIMS_URL": redis_node.url} if has_claims else {}
    async with RunningSystem(vhost, tmp_path) as system:
        await system.fake_dcs.apply({"scripts": {"a": ["error 403 DCS.4003", "ok"]}})
        await system.worker(**claims).ready()
        events = [await answer(system, request("a", "a")) for _ in range(3)]
        assert [event.body["reason"] for event in events] == ["forbidden"] * 3
        assert await system.depth(PARKED) == 1

        environment = settings(system.amqp_url, system.folder, system.fake_dcs.url) | claims
        done = await CommandLine(environment, system.folder).run("parked", "replay", "a", "--yes")
        assert (done.status, await system.depth(PARKED)) == (0, 0)
        again = await answer(system, request("a", "a"))
        assert (again.body["resolution"], again.headers.get(names.REPEATED)) == ("created", True)
        assert [task.name for task in system.fake_dcs.tasks] == ["a"]


async def test_request_that_was_dropped_is_new(vhost: str, tmp_path: Path, redis_node: RedisServer) -> None:
    """With claims the drop ends what every replica knows of it."""
    claims = {"WORKER_CLAIMS_URL": redis_node.url}
    async with RunningSystem(vhost, tmp_path) as system:
        await system.fake_dcs.apply({"scripts": {"a": ["error 403 DCS.4003", "ok"]}})
        await system.worker(**claims).ready()
        await answer(system, request("a", "a"))
        environment = settings(system.amqp_url, system.folder, system.fake_dcs.url) | claims
        done = await CommandLine(environment, system.folder).run("parked", "drop", "a", "--yes")
        assert done.status == 0
        created = await answer(system, request("a", "a"))
        assert (created.body["resolution"], created.headers.get(names.REPEATED)) == ("created", None)
        assert await system.depth(PARKED) == 0
        assert [task.name for task in system.fake_dcs.tasks] == ["a"]

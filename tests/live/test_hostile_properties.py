"""Properties that clients refuse to write or read, on a real broker: they break neither connection nor neighbour."""

import asyncio
import json
from pathlib import Path

from schemas import names
from tests.live.raw_amqp import RawSender
from tests.malformed_messages import RAW_PROPERTIES, TYPED_HEADERS
from tools.harness.running_system import RunningSystem, request, until

PLAIN = b"\x00\x00"
WHATEVER_THE_BROKER = ("correlation_id that is not UTF-8", "timestamp of the largest", "header name that is not UTF-8")
"""Taken by every version that is tested."""


async def publish(url: str, name: str, properties: bytes) -> bool:
    """Publish a good request with these properties; whether the broker takes it."""
    async with RawSender(url) as sender:
        return await sender.publish(names.REQUEST_QUEUE, properties, json.dumps(request(name, name)).encode())


async def test_requests_with_hostile_properties_get_their_event(vhost: str, tmp_path: Path) -> None:
    """Each between ordinary ones, all through a retry queue: every accepted request is answered once."""
    cases = {f"hostile-{number}": name for number, name in enumerate(RAW_PROPERTIES)}
    async with RunningSystem(vhost, tmp_path) as system:
        await system.fake_dcs.apply({"scripts": {name: ["error 400 DCS.4026", "ok"] for name in cases}})
        worker = system.worker(WORKER_TRIES=1, WORKER_RETRY_DELAYS="0.2,4")
        await worker.ready()
        published: list[str] = []
        for request_name, case in cases.items():
            is_taken = await publish(vhost, request_name, RAW_PROPERTIES[case])
            assert is_taken or case not in WHATEVER_THE_BROKER, case
            published += [request_name] if is_taken else []
            neighbour = f"neighbour-of-{request_name}"
            assert await publish(vhost, neighbour, PLAIN)
            published.append(neighbour)

        await system.answered(len(published))
        system.assert_one_task_each(published)
        assert len([name for name in published if name in cases]) > len(cases) * 0.8
        async with asyncio.timeout(20):
            while not await system.all_empty((0.2, 4)):
                await asyncio.sleep(0.1)
        await until(lambda: worker.metric("dcs_worker_in_flight_requests") == 0, 10)
        assert worker.metric("dcs_worker_requests_received_total", 'redelivered="true"') == 0
        assert not [line for line in worker.log() if line["level"] in ("warning", "error")], worker.explain()


async def test_copy_keeps_hostile_properties(vhost: str, tmp_path: Path) -> None:
    """Byte for byte: text that is not UTF-8, and a time in milliseconds, which are no seconds afterwards."""
    hostile = RAW_PROPERTIES["correlation_id that is not UTF-8"], RAW_PROPERTIES["timestamp of milliseconds"]
    async with RunningSystem(vhost, tmp_path) as system:
        worker = system.worker()
        await worker.ready()
        async with RawSender(vhost) as client:
            for properties in hostile:
                assert await client.publish(names.REQUEST_QUEUE, properties, b"no JSON, so it is parked")
                async with asyncio.timeout(20):
                    while not (copy := await client.get(names.parked_queue(names.REQUEST_QUEUE))):
                        await asyncio.sleep(0.1)
                assert properties[2:] in copy


async def test_copies_keep_the_senders_headers(vhost: str, tmp_path: Path) -> None:
    """Byte for byte, through a retry queue and into the parked queue, as the broker had given them to the worker."""
    async with RunningSystem(vhost, tmp_path) as system:
        await system.fake_dcs.apply({"scripts": {"typed": ["error 400 DCS.4026", "error 403 DCS.0003"]}})
        worker = system.worker(WORKER_TRIES=1, WORKER_RETRY_DELAYS="0.2,4")
        await worker.ready()
        table = b"".join(TYPED_HEADERS)
        async with RawSender(vhost) as client:
            properties = b"\x20\x00" + len(table).to_bytes(4) + table
            assert await client.publish(names.REQUEST_QUEUE, properties, json.dumps(request("typed")).encode())
            async with asyncio.timeout(20):
                while not (copy := await client.get(names.parked_queue(names.REQUEST_QUEUE))):
                    await asyncio.sleep(0.1)
        assert [entry for entry in TYPED_HEADERS if entry not in copy] == []

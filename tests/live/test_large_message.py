"""Large messages, which RabbitMQ takes by default: they cost neither connection, nor neighbours, nor the pod."""

import asyncio
import signal
from pathlib import Path

import pytest

from schemas import names
from tests.fakes.servers import RabbitMqServer
from tools.harness.running_system import RunningSystem, request, until

SIZE = 64 << 20
MAX_PEAK_BYTES = 230 << 20
"""Below the memory limit of the pods in deploy/."""


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("is_object", [True, False], ids=["object", "no JSON"])
async def test_large_message_is_refused_while_others_go_on(
    rabbit: RabbitMqServer, vhost: str, tmp_path: Path, is_object: bool
) -> None:
    """The answer comes within 15 s. What would be parked is left to the broker: a copy needs three times the memory."""
    rabbit.run_ctl("eval", f"application:set_env(rabbit, max_message_size, {2 * SIZE}).")  # for new channels
    body = b'{"request_id": "large", "x": "' + b"x" * SIZE + b'"}' if is_object else b"\x80" * SIZE
    async with RunningSystem(vhost, tmp_path) as system:
        worker = system.worker()
        await worker.ready()
        await system.publish(body)
        await system.publish(request("small", request_id="small"))
        await until(lambda: len(system.events) == 2, 15, worker.explain)

        system.assert_one_task_each(["small"])
        (refusal,) = [event for event in system.events if event.key == "migration.failed"]
        assert (refusal.body["reason"], refusal.body["parked"]) == ("invalid_request", not is_object)
        async with asyncio.timeout(20):
            while await system.depth(names.parked_queue(names.REQUEST_QUEUE)) != (not is_object):
                await asyncio.sleep(0.1)
        assert peak_bytes(worker.pid) < MAX_PEAK_BYTES
        assert worker.metric("dcs_worker_requests_received_total", 'redelivered="true"') == 0
        assert not [line for line in worker.log() if line["event"] == "broker.disconnected"], worker.explain()


async def test_large_messages_do_not_wait_in_memory(own_rabbit: RabbitMqServer, tmp_path: Path) -> None:
    """Those that come while the broker blocks publishing, and are together larger than the pod: no body is kept."""
    count, body = 30, b"\x80" * (8 << 20)
    async with RunningSystem(own_rabbit.url, tmp_path) as system:
        worker = system.worker()
        await worker.ready()
        worker.process.send_signal(signal.SIGSTOP)  # until the alarm is on
        for _ in range(count):
            await system.publish(body)
        own_rabbit.run_ctl("set_vm_memory_high_watermark", "absolute", "1000")
        worker.process.send_signal(signal.SIGCONT)
        await until(lambda: worker.metric("dcs_worker_requests_received_total") == count, 20, worker.explain)
        assert system.events == []
        own_rabbit.run_ctl("set_vm_memory_high_watermark", "0.4")
        await until(lambda: len(system.events) >= count, 30, worker.explain)

        assert {event.body["reason"] for event in system.events} == {"invalid_request"}
        assert peak_bytes(worker.pid) < MAX_PEAK_BYTES

"""Check of the HTTP port: free, in use by a worker, in use by another program."""

import asyncio
import json
import socket

from worker.cli.doctor.http_port import check_port
from worker.policy.diagnostics import CheckResult
from worker.tools.servers import free_port


async def test_free_port_is_ok_and_stays_free() -> None:
    """The check does not keep the port."""
    port = free_port()

    for _ in range(2):
        assert (await check_port("127.0.0.1", port)).result is CheckResult.OK
    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_port_0_is_not_checked() -> None:
    """The system chooses a free port."""
    assert (await check_port("0.0.0.0", 0)).result is CheckResult.NOT_CHECKED


async def test_port_in_use_by_another_program_fails() -> None:
    """The remedy shows how to find the program."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 404 Not Found\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        check = await check_port("127.0.0.1", port)

    assert (check.result, check.found) == (CheckResult.FAILED, "cannot listen: Address already in use")
    assert f"sport = :{port}" in (check.remedy or "")


async def test_port_in_use_by_a_worker_is_ok() -> None:
    """Next to a running worker its port is not free."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + json.dumps({"alive": True}).encode()
        )
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        check = await check_port("127.0.0.1", server.sockets[0].getsockname()[1])

    assert check.result is CheckResult.OK


async def test_address_of_another_machine_fails() -> None:
    """The remedy is another host, not another port."""
    check = await check_port("192.0.2.1", free_port())

    assert check.result is CheckResult.FAILED
    assert "WORKER_HTTP_HOST" in (check.remedy or "")

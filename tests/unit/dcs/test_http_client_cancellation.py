"""Calls that are cancelled, or whose deadline passes, at any moment: nothing leaks and nothing is sent twice."""

import asyncio
import os
import random
import re
from contextlib import suppress

import httpx2
import pytest

from tests.unit.dcs.raw_server import (
    RawServer,
    allowed,
    an_order,
    calling,
    client_over,
    client_tls,
    created,
    server_tls,
    serving,
)
from tests.unit.dcs.test_transport_proxies import tunnelling
from worker.dcs.client import DcsClient
from worker.dcs.transport import Pools, ServiceTransport
from worker.policy.call_result import CallError, CallStatus, Evidence, TaskCreated

MANY = 2_000
"""Cancellations in which no pool may leak, on both loops together."""
AT_ONCE = 10
CLOSE = b"Connection: close"


def sockets() -> int:
    """Open sockets of this process."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return count


async def steps(count: int) -> None:
    """Let the loop turn so often."""
    for _ in range(count):
        await asyncio.sleep(0)


def assert_idle(transport: httpx2.AsyncBaseTransport) -> None:
    """No pool counts a call."""
    assert set(re.findall(r"<Pools: (\d+) busy", repr(transport))) == {"0"}, repr(transport)


def assert_sent_once(server: RawServer) -> None:
    """No create came twice."""
    bodies = [request.partition(b"\r\n\r\n")[2] for request in server.requests]
    assert len(set(bodies)) == len(bodies)


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
@pytest.mark.parametrize("headers", [(), (CLOSE,)], ids=["kept", "new"])
@pytest.mark.parametrize("route", ["http", "https", "tunnel"])
async def test_call_that_is_cancelled_at_any_step_leaves_nothing_behind(
    route: str, headers: tuple[bytes, ...], times: int
) -> None:
    """Once, or again while it cleans up: at most one create arrives, and the next call has its own answer."""
    tls = None if route == "http" else server_tls()
    async with tunnelling() as proxy, serving(created("NUMBER", *headers), tls=tls) as server:
        transport = ServiceTransport(client_tls(), 5, lambda *_: proxy.url if route == "tunnel" else None)
        async with calling(server.url, transport=transport) as dcs:
            assert isinstance(await dcs.create(an_order("first"), allowed), TaskCreated)
            for step in range(500):
                creating = asyncio.create_task(dcs.create(an_order(f"r-{step}"), allowed))
                await steps(step)
                if creating.done():
                    break
                for _ in range(times):
                    creating.cancel()
                    await steps(1)
                await asyncio.wait({creating})
                assert isinstance(await dcs.create(an_order(f"after-{step}"), allowed), TaskCreated)
                assert_idle(transport)
            assert 5 < step < 499
            assert_sent_once(server)


@pytest.mark.parametrize("route", ["http", "https", "tunnel"])
async def test_deadline_that_passes_at_any_moment_is_never_mistaken(route: str) -> None:
    """What is never sent never arrives, and what was created is not lost as such."""
    tls, random_unit = None if route == "http" else server_tls(), random.Random(7)
    async with tunnelling() as proxy, serving(created(), tls=tls) as server:
        transport = ServiceTransport(client_tls(), 5, lambda *_: proxy.url if route == "tunnel" else None)
        never_sent: list[str] = []
        for number in range(150):
            # Every second deadline passes about when the request is sent, however fast the machine is.
            deadline = random_unit.uniform(0, 0.008 if number % 2 else 0.0005)
            dcs = client_over(transport, server.url, deadline)
            result = await dcs.create(an_order(f"r-{number}-", f"r-{number}-"), allowed)
            if isinstance(result, CallError):
                assert result.status is CallStatus.TIMEOUT
                if result.evidence is Evidence.NEVER_SENT:
                    never_sent.append(f"r-{number}-")
        await asyncio.sleep(0.05)
        assert never_sent
        assert not [marker for marker in never_sent if marker.encode() in b"".join(server.requests)]
        assert_sent_once(server)
        assert_idle(transport)
        await transport.aclose()


async def test_no_pool_leaks_in_many_cancellations() -> None:
    """Afterwards none is busy, as many calls as before work at once, and no more sockets are open than those need."""
    random_unit, tls = random.Random(3), client_tls()
    pools = Pools(lambda: httpx2.AsyncHTTPTransport(verify=tls, limits=httpx2.Limits(max_connections=1)))

    async def cancelled(dcs: DcsClient, number: int) -> bool:
        creating = asyncio.create_task(dcs.create(an_order(f"r-{number}"), allowed))
        await steps(random_unit.randrange(12))
        creating.cancel()
        await asyncio.wait({creating})
        return creating.cancelled()

    async with serving(created()) as server, calling(server.url, transport=pools) as dcs:
        before, count, number = sockets(), 0, 0
        while count < MANY // 2:
            count += sum(await asyncio.gather(*(cancelled(dcs, number + index) for index in range(AT_ONCE))))
            number += AT_ONCE
        async with asyncio.timeout(5):
            results = await asyncio.gather(*(dcs.create(an_order(f"last-{n}"), allowed) for n in range(AT_ONCE)))
        assert all(isinstance(result, TaskCreated) for result in results), results
        assert_idle(pools)
        assert_sent_once(server)
        await asyncio.sleep(0.1)
        assert sockets() - before <= 2 * AT_ONCE + 2

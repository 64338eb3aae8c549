"""Claims while Redis is killed, frozen, flushed, slow, full, read-only or not ours: no call raises, waits or lies."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import pytest

from tests.fakes.servers import RedisServer
from tests.live.redis_replicas import (
    DONE,
    LEASE,
    NOW,
    REDELIVERED,
    RecordingObserver,
    ending,
    migration,
    operator,
    replica,
    two_replicas,
    until,
)
from tools.harness.running_system import machine_load_factor
from worker.claims.redis_claims import CALL_TIMEOUT_SECONDS
from worker.policy.migration_request import MigrationRequest
from worker.policy.outcome import ClaimedElsewhere, Concluded, Granted, Unavailable

LATE = CALL_TIMEOUT_SECONDS + 0.3  # what a busy machine may add to a deadline
AT_ONCE = CALL_TIMEOUT_SECONDS / 2
Answer = TypeVar("Answer")


@dataclass
class Relay:
    """A proxy in front of Redis that may swallow what it is sent."""

    url: str = ""
    swallows: bool = False


@asynccontextmanager
async def relay_to(node: RedisServer) -> AsyncIterator[Relay]:
    """Such a proxy."""
    relay, ways = Relay(), set[asyncio.Task[None]]()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            if not relay.swallows:
                writer.write(piece)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_redis = await asyncio.open_connection("127.0.0.1", node.port)
        ways.update(asyncio.create_task(copy(*ends)) for ends in ((reader, to_redis[1]), (to_redis[0], writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    relay.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    try:
        yield relay
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.wait_for(asyncio.gather(*ways, return_exceptions=True), 5)


async def in_time(call: Awaitable[Answer], seconds: float = LATE) -> Answer:
    """What a call answers, which must not take longer."""
    started_at = time.monotonic()
    answer = await call
    assert time.monotonic() - started_at < seconds * machine_load_factor()
    return answer


async def test_absent_redis_delays_no_request(redis_node: RedisServer) -> None:
    """With Redis unreachable from the start, a thousand claims in a row are answered at once, and it is logged once."""
    redis_node.kill()
    reported = RecordingObserver()
    async with replica(redis_node.url, reported) as claims:
        started_at = time.monotonic()
        for number in range(1000):
            of = migration(f"r-{number}")
            assert await claims.take(of, NOW, REDELIVERED) == Unavailable()
            assert not claims.is_claimed(of)
            await claims.release(of, None)
        assert time.monotonic() - started_at < machine_load_factor()
        assert not claims.is_available
        assert reported.available == [False]
        await asyncio.to_thread(redis_node.start)
        await until(lambda: claims.is_available)
        assert isinstance(await claims.take(migration(), NOW, REDELIVERED), Granted)
    assert reported.available == [False, True]


@pytest.mark.parametrize("late_reports", [0, 8])
async def test_held_claims_survive_empty_redis_restart(redis_node: RedisServer, late_reports: int) -> None:
    """Held claims stay held. What ended meanwhile is stored later only with `late_reports`, as under `pause`."""
    reported = RecordingObserver()
    async with (
        replica(redis_node.url, reported, lease=6.0, late_reports=late_reports) as one,
        replica(redis_node.url) as other,
    ):
        for name in ("before", "held", "during", "released"):
            assert isinstance(await one.take(migration(name), NOW, REDELIVERED), Granted)
        await one.conclude(migration("before"), ending(migration("before")))
        await asyncio.to_thread(redis_node.kill)
        await until(lambda: not one.is_available)
        assert not one.is_claimed(migration("held"))
        assert await in_time(one.take(migration("new"), NOW, REDELIVERED), AT_ONCE) == Unavailable()
        await in_time(one.conclude(migration("during"), ending(migration("during"))), AT_ONCE)
        await in_time(one.release(migration("released"), NOW), AT_ONCE)
        await asyncio.to_thread(redis_node.start)
        await until(lambda: one.is_available and other.is_available)
        assert one.is_claimed(migration("held"))
        answers = [
            await other.take(migration(name), NOW, REDELIVERED)
            for name in ("before", "held", "during", "released", "new")
        ]
    is_told = late_reports > 0
    assert answers == [
        Granted(),
        ClaimedElsewhere(migration().fingerprint),
        Concluded(ending(migration("during"))) if is_told else Granted(),
        Granted(is_first=False, last_sent_at=NOW) if is_told else Granted(),
        Granted(),
    ]
    assert reported.available == [True, False, True]


async def test_at_most_late_reports_are_kept(redis_node: RedisServer) -> None:
    """The newest ones, and only for a Redis that is away."""
    async with replica(redis_node.url, late_reports=2) as claims:
        await claims.conclude(migration("heard"), ending(migration("heard")))
        await asyncio.to_thread(redis_node.kill)
        await until(lambda: not claims.is_available)
        for name in ("a", "b", "c"):
            await claims.conclude(migration(name), ending(migration(name)))
        await asyncio.to_thread(redis_node.start)
        await until(lambda: claims.is_available)
        answers = [await claims.take(migration(name), NOW, REDELIVERED) for name in ("heard", "a", "b", "c")]
    assert [isinstance(answer, Concluded) for answer in answers] == [False, False, True, True]


async def test_claim_that_was_not_renewed_is_lost(redis_node: RedisServer) -> None:
    """With Redis unreachable beyond the lease a claim no longer counts here, but excludes others once Redis is back."""
    times = [1000.0]
    async with (
        replica(redis_node.url, lease=30.0, clock=lambda: times[-1]) as one,
        replica(redis_node.url) as other,
    ):
        await one.take(migration(), NOW, REDELIVERED)
        assert one.is_claimed(migration())
        await asyncio.to_thread(redis_node.kill)
        await until(lambda: not one.is_available)
        assert not one.is_claimed(migration())
        times.append(1030.0)
        await asyncio.to_thread(redis_node.start)
        await until(lambda: one.is_available and other.is_available)
        assert not one.is_claimed(migration())
        assert await other.take(migration(), NOW, REDELIVERED) == ClaimedElsewhere(migration().fingerprint)


async def test_frozen_redis_delays_call_no_longer_than_deadline(redis_node: RedisServer) -> None:
    """Every call to a frozen Redis ends within the deadline, later ones at once; the claim is abandoned in time."""
    reported = RecordingObserver()
    async with replica(redis_node.url, reported, late_reports=8) as claims:
        await claims.take(migration("held"), NOW, REDELIVERED)
        await claims.take(migration("ended"), NOW, REDELIVERED)
        redis_node.freeze()
        calls = [in_time(claims.take(migration(f"r-{number}"), NOW, REDELIVERED)) for number in range(100)]
        ended = in_time(claims.conclude(migration("ended"), ending(migration("ended"))))
        answers, _ = await asyncio.gather(asyncio.gather(*calls), ended)
        assert answers == [Unavailable()] * 100
        assert await in_time(claims.take(migration("next"), NOW, REDELIVERED), AT_ONCE) == Unavailable()
        assert not claims.is_claimed(migration("held"))
        await until(lambda: reported.available == [True, False])
        redis_node.thaw()
        await until(lambda: claims.is_available)
        assert await in_time(claims.take(migration("ended"), NOW, REDELIVERED)) == Concluded(ending(migration("ended")))


async def test_stalled_redis_delays_request_no_longer_than_timeout(redis_node: RedisServer) -> None:
    """While Redis is stalled for 2.4 s, each claim is answered within the timeout."""
    async with replica(redis_node.url, late_reports=1000) as claims:

        async def handle(of: MigrationRequest) -> None:
            await in_time(claims.take(of, NOW, REDELIVERED), 2 * LATE)
            await in_time(claims.conclude(of, ending(of)), 2 * LATE)

        redis_node.freeze()
        handled: list[asyncio.Task[None]] = []
        stalled_at = time.monotonic()
        while time.monotonic() < stalled_at + 2.4:
            handled.append(asyncio.create_task(handle(migration(f"r-{len(handled)}"))))
            await asyncio.sleep(0.02)
        redis_node.thaw()
        await asyncio.gather(*handled)
        await until(lambda: claims.is_available)
        answers = [
            await in_time(claims.take(migration(f"r-{number}"), NOW, REDELIVERED)) for number in range(len(handled))
        ]
    assert answers == [Concluded(ending(migration(f"r-{number}"))) for number in range(len(handled))]


async def test_claims_stop_while_redis_is_frozen(redis_node: RedisServer) -> None:
    """Neither a call in flight nor an attempt to connect delays the end of the process."""
    async with replica(redis_node.url) as claims:
        redis_node.freeze()
        taking = asyncio.create_task(claims.take(migration(), NOW, REDELIVERED))
        await asyncio.sleep(0)
        await in_time(claims.aclose())
        assert await in_time(taking) == Unavailable()
        restarted = asyncio.create_task(claims.start())
        await asyncio.sleep(0.1)
        await in_time(claims.aclose())
        restarted.cancel()
        await asyncio.gather(restarted, return_exceptions=True)
    redis_node.thaw()


async def test_silent_proxy_delays_no_request(redis_node: RedisServer) -> None:
    """A connection that stays open and answers nothing is closed within the timeout, and another is opened."""
    async with relay_to(redis_node) as way, replica(way.url) as claims:
        assert isinstance(await claims.take(migration("before"), NOW, REDELIVERED), Granted)
        way.swallows = True
        answers = await asyncio.gather(
            *(in_time(claims.take(migration(f"r-{number}"), NOW, REDELIVERED)) for number in range(20))
        )
        assert answers == [Unavailable()] * 20
        way.swallows = False
        await until(lambda: claims.is_available)
        assert claims.is_claimed(migration("before"))


async def test_slow_redis_is_awaited_within_deadline(redis_node: RedisServer) -> None:
    """A late answer within the deadline counts; a Redis that answers too late is left out."""
    async with replica(redis_node.url) as claims, operator(redis_node) as client:
        await client.execute_command("CLIENT", "PAUSE", "250")
        assert isinstance(await in_time(claims.take(migration("late"), NOW, REDELIVERED)), Granted)
        await client.execute_command("CLIENT", "PAUSE", "1500")
        assert await in_time(claims.take(migration("too-late"), NOW, REDELIVERED)) == Unavailable()
        assert await in_time(claims.take(migration("again"), NOW, REDELIVERED), AT_ONCE) == Unavailable()
        await until(lambda: claims.is_available)
        assert not any(claims.is_claimed(migration(name)) for name in ("too-late", "again"))


async def test_renewal_restores_flushed_claim(redis_node: RedisServer) -> None:
    """After FLUSHALL on a living connection, held claims are stored again by the next renewal; outcomes are not."""
    reported = RecordingObserver()
    async with (
        replica(redis_node.url, reported) as one,
        replica(redis_node.url) as other,
        operator(redis_node) as client,
    ):
        await one.take(migration("held"), NOW, REDELIVERED)
        await one.take(migration("ended"), NOW, REDELIVERED)
        await one.conclude(migration("ended"), ending(migration("ended")))
        await client.flushall()
        async with asyncio.timeout(LEASE):
            while await client.dbsize() < 2:
                await asyncio.sleep(0.01)
        assert await other.take(migration("held"), NOW, REDELIVERED) == ClaimedElsewhere(migration().fingerprint)
        assert await other.take(migration("ended"), NOW, REDELIVERED) == Granted()
        assert one.is_claimed(migration("held"))
        assert reported.available == [True]


async def test_claim_taken_by_other_after_flush_is_lost(redis_node: RedisServer) -> None:
    """The replica that lost its claim in a flush notices with its next renewal that another has it."""
    async with two_replicas(redis_node.url) as (one, other), operator(redis_node) as client:
        await one.take(migration(), NOW, REDELIVERED)
        await client.flushall()
        assert isinstance(await other.take(migration(), NOW, REDELIVERED), Granted)
        await until(lambda: not one.is_claimed(migration()), LEASE)
        assert other.is_claimed(migration())
        await one.release(migration(), NOW)
        assert await one.take(migration(), NOW, REDELIVERED) == ClaimedElsewhere(migration().fingerprint)


async def test_request_concluded_by_other_is_not_held(redis_node: RedisServer) -> None:
    """An outcome stored by another replica takes the claim from the one that still works on the request."""
    async with two_replicas(redis_node.url) as (one, other):
        await one.take(migration(), NOW, REDELIVERED)
        await other.conclude(migration(), DONE)
        await until(lambda: not one.is_claimed(migration()), LEASE)
        await one.conclude(migration(), ending(migration(), None))
        assert await one.take(migration(), NOW, REDELIVERED) == Concluded(DONE)


async def test_failover_to_replica_keeps_claims(redis_node: RedisServer) -> None:
    """A server that becomes a read-only replica counts as unreachable until it is a master again; claims survive."""
    reported = RecordingObserver()
    async with replica(redis_node.url, reported) as claims, operator(redis_node) as client:
        await claims.take(migration("held"), NOW, REDELIVERED)
        await client.replicaof("127.0.0.1", "1")
        assert await claims.take(migration(), NOW, REDELIVERED) == Unavailable()
        attempts = (await client.info("stats"))["total_connections_received"]
        async with asyncio.timeout(10):
            while (await client.info("stats"))["total_connections_received"] < attempts + 2:
                await asyncio.sleep(0.05)
        assert reported.available == [True, False]  # no attempt took it for good
        await client.replicaof("NO", "ONE")
        await until(lambda: claims.is_available)
        await until(lambda: claims.is_claimed(migration("held")))
    assert reported.reasons[1] == "Redis is a replica that must not be written to"


async def test_full_redis_counts_as_unreachable(redis_node: RedisServer) -> None:
    """Out of memory means unreachable, until there is room again."""
    reported = RecordingObserver()
    async with replica(redis_node.url, reported) as claims, operator(redis_node) as client:
        await client.config_set("maxmemory", "1")
        assert await claims.take(migration(), NOW, REDELIVERED) == Unavailable()
        await until(lambda: reported.reasons[-1] == "Redis is out of memory")
        await client.config_set("maxmemory", "0")
        await until(lambda: claims.is_available)
    assert reported.available == [True, False, True]

"""How claims reach a real Redis: credentials, rights, TLS, and one connection that is closed in the end."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from tests.fakes.servers import RedisServer
from tests.live.redis_replicas import (
    DONE,
    NOW,
    REDELIVERED,
    RecordingObserver,
    migration,
    operator,
    renewed,
    replica,
    until,
)
from worker.claims.scripts import record_key
from worker.policy.outcome import ClaimedElsewhere, Concluded, Granted, Unavailable


async def test_closed_connection_is_opened_again(redis_node: RedisServer) -> None:
    """A connection that the server or a proxy closes is replaced, and nothing that was held is lost."""
    async with (
        replica(redis_node.url, lease=6.0) as one,
        replica(redis_node.url) as other,
        operator(redis_node) as client,
    ):
        await one.take(migration(), NOW, REDELIVERED)
        await client.client_kill_filter(_type="normal", skipme=True)
        await until(lambda: not one.is_available)
        await until(lambda: one.is_available and other.is_available)
        assert one.is_claimed(migration())
        assert await other.take(migration(), NOW, REDELIVERED) == ClaimedElsewhere(migration().fingerprint)


@pytest.mark.parametrize("login", ["", "app:wrong-secret@", "app:right-secret@", "nobody:right-secret@"])
async def test_wrong_redis_credentials_are_reported(redis_node: RedisServer, login: str) -> None:
    """Without the right password, or the right to run scripts, Redis counts as unreachable; the URL is not shown."""
    reported = RecordingObserver()
    async with operator(redis_node) as client:
        await client.acl_setuser("app", enabled=True, passwords=["+right-secret"], commands=["+ping", "+select"])
        await client.acl_setuser("default", enabled=True, passwords=["+another"], keys=["*"], categories=["+@all"])
        url = f"redis://{login}127.0.0.1:{redis_node.port}/1"
        async with replica(url, reported) as claims:
            assert await claims.take(migration(), NOW, REDELIVERED) == Unavailable()
            assert reported.available == [False]
            output = f"{claims!r} {reported.reasons}"
        assert "credentials" in output
        assert not any(word in output for word in ("app", "nobody", "secret"))


@pytest.mark.parametrize("more", [["evalsha"], []], ids=["now", "0.1.0"])
async def test_documented_redis_rights_suffice(redis_node: RedisServer, more: list[str]) -> None:
    """A user with exactly these rights can do all that claims need, also those of 0.1.0."""
    commands = ["eval", "get", "set", "hmget", "hset", "hdel", "del", "pexpire", "time", "select", *more]
    async with operator(redis_node) as client:
        await client.acl_setuser(
            "app",
            enabled=True,
            passwords=["+p@ss/word"],
            keys=["dcs-worker:*"],
            commands=[f"+{name}" for name in commands],
        )
        url = f"redis://app:p%40ss%2Fword@127.0.0.1:{redis_node.port}/1"
        async with replica(url) as one, replica(url) as other:
            assert isinstance(await one.take(migration(), NOW, REDELIVERED), Granted)
            await client.select(1)
            await renewed(client, migration())
            await one.release(migration(), NOW)
            assert isinstance(await other.take(migration(), NOW, REDELIVERED), Granted)
            await other.conclude(migration(), DONE)
            assert await one.take(migration(), NOW, REDELIVERED) == Concluded(DONE)


@pytest.mark.parametrize(("rights", "is_told"), [(["+@all"], True), (["+@all", "-info"], False)])
async def test_share_of_used_memory_is_reported(redis_node: RedisServer, rights: list[str], is_told: bool) -> None:
    """With a limit, to a user who may ask; unknown to others, who lose nothing else by it."""
    reported = RecordingObserver()
    async with operator(redis_node) as client:
        await client.config_set("maxmemory", "100mb")
        await client.acl_setuser("app", enabled=True, passwords=["+secret"], keys=["*"], commands=rights)
        async with replica(f"redis://app:secret@127.0.0.1:{redis_node.port}/1", reported) as claims:
            assert isinstance(await claims.take(migration(), NOW, REDELIVERED), Granted)
            (share,) = reported.memory_used[:1]
            assert (0.0 < (share or 0.0) < 0.2) is is_told
        await client.config_set("maxmemory", "0")
        unlimited = RecordingObserver()
        async with replica(redis_node.url, unlimited) as claims:
            assert claims.is_available
            assert unlimited.memory_used[0] is None


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes in until it ends."""
    while piece := await reader.read(65536):
        writer.write(piece)
    writer.close()


@asynccontextmanager
async def tls_in_front_of(node: RedisServer, folder: Path) -> AsyncIterator[str]:
    """A TLS port that leads to Redis, as a URL that names the authority to trust."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    clients: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_redis = await asyncio.open_connection("127.0.0.1", node.port)
        for ends in ((reader, to_redis[1]), (to_redis[0], writer)):
            clients.add(asyncio.create_task(copy(*ends)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"rediss://localhost:{port}/0?ssl_ca_certs={folder / 'ca.pem'}"
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.wait_for(asyncio.gather(*clients, return_exceptions=True), 5)


async def test_claims_work_over_tls(redis_node: RedisServer, tmp_path: Path) -> None:
    """rediss:// is TLS with a verified server; a server of an unknown authority is refused."""
    async with tls_in_front_of(redis_node, tmp_path) as url:
        async with replica(url) as claims:
            assert isinstance(await claims.take(migration(), NOW, REDELIVERED), Granted)
        async with replica(url.partition("?")[0], reported := RecordingObserver()) as claims:
            assert await claims.take(migration(), NOW, REDELIVERED) == Unavailable()
        assert "certificate" in reported.reasons[0]


async def test_claims_work_over_unix_socket(redis_node: RedisServer, tmp_path: Path) -> None:
    """unix:// is a socket in the file system, here one that leads to Redis."""
    ways: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_redis = await asyncio.open_connection("127.0.0.1", redis_node.port)
        ways.update(asyncio.create_task(copy(*ends)) for ends in ((reader, to_redis[1]), (to_redis[0], writer)))

    async with (
        await asyncio.start_unix_server(serve, tmp_path / "redis.sock"),
        replica(f"unix://{tmp_path}/redis.sock?db=1") as claims,
        operator(redis_node) as client,
    ):
        assert isinstance(await claims.take(migration(), NOW, REDELIVERED), Granted)
        await client.select(1)
        assert await client.exists(record_key(migration()))
    await asyncio.wait_for(asyncio.gather(*ways, return_exceptions=True), 5)


async def test_scripts_flushed_by_redis_are_loaded_again(redis_node: RedisServer) -> None:
    """SCRIPT FLUSH costs a round trip and no claim."""
    reported = RecordingObserver()
    async with replica(redis_node.url, reported) as claims, operator(redis_node) as client:
        await claims.take(migration(), NOW, REDELIVERED)
        await client.script_flush()
        assert isinstance(await claims.take(migration("r-2"), NOW, REDELIVERED), Granted)
        await renewed(client, migration())
        await client.script_flush()
        await claims.conclude(migration(), DONE)
        assert await claims.take(migration(), NOW, REDELIVERED) == Concluded(DONE)
    assert reported.available == [True]


async def test_closed_claims_leave_no_connection(redis_node: RedisServer) -> None:
    """A replica has one connection however many claims it makes, and none after close."""
    async with operator(redis_node) as client:
        async with replica(redis_node.url) as claims:
            await asyncio.gather(*(claims.take(migration(f"r-{number}"), NOW, REDELIVERED) for number in range(500)))
            assert len(await client.client_list()) == 2
        async with asyncio.timeout(5):
            while len(await client.client_list()) > 1:
                await asyncio.sleep(0.01)

"""Private nodes: they answer, keep what they must, and leave nothing behind."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import aio_pika
import pytest
import redis
import trustme

from tests.fakes.servers import RabbitMqServer, RedisServer
from tests.live.conftest import Vhosts
from worker.tools.servers import ServerFailedError, ServerUnavailableError, free_port

USER = """
import asyncio, signal, sys
from tests.fakes.servers import RabbitMqServer, RedisServer

async def in_a_loop():
    async with RedisServer(), RabbitMqServer():
        print("up", flush=True)
        await asyncio.Event().wait()

def without_a_loop():
    with RedisServer(), RabbitMqServer():
        print("up", flush=True)
        sys.stdin.read()

# A process that a script starts in the background ignores Ctrl-C, and its children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
asyncio.run(in_a_loop()) if sys.argv[1] == "loop" else without_a_loop()
"""


def processes(mark: Path) -> list[str]:
    """The living processes whose environment or command line mentions a folder, each as `name pid`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            output = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if str(mark).encode() in output and state != "Z" and entry.name != str(os.getpid()):
                found.append(f"{(entry / 'comm').read_text().strip()} {entry.name}")
    return found


def await_that(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until a condition holds; fail when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(0.02)


def is_clean(place: Path) -> bool:
    """Whether no process and no file is left of the nodes that had their folders in `place`."""
    return not processes(place) and not list(place.iterdir())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the nodes of this test have their folders."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@dataclass(frozen=True)
class Equipped:
    """A node with all that a node may have: a TLS listener, trusted through `authority`, and a plugin."""

    node: RabbitMqServer
    tls_port: int
    authority: Path


@pytest.fixture(scope="module")
def equipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Equipped]:
    """One node for those tests that do not take it away from each other."""
    folder, authority, port = tmp_path_factory.mktemp("tls"), trustme.CA(), free_port()
    server = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    server.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    lines = [
        f"listeners.ssl.1 = 127.0.0.1:{port}",
        f"ssl_options.cacertfile = {folder}/ca.pem",
        f"ssl_options.certfile = {folder}/server.pem",
        f"ssl_options.keyfile = {folder}/server.pem",
    ]
    with RabbitMqServer(config=lines, plugins=["rabbitmq_prometheus"]) as node:
        yield Equipped(node, port, folder / "ca.pem")


async def test_shared_node_serves_a_fresh_vhost_per_test(vhost: str) -> None:
    """A message published to a queue in the test's vhost comes back."""
    async with await aio_pika.connect(vhost) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("letters", durable=True, arguments={"x-queue-type": "quorum"})
        await channel.default_exchange.publish(aio_pika.Message(b"one"), "letters")
        message = await queue.get(timeout=10)
        await message.ack()
    assert message.body == b"one"


def test_each_test_gets_another_vhost(vhosts: Vhosts, vhost: str, rabbit: RabbitMqServer) -> None:
    """Two tests never share a vhost, and the node has the vhost."""
    assert vhosts.take() != vhost
    assert vhost.rpartition("/")[2] in rabbit.run_ctl("list_vhosts").split()


async def test_durable_messages_survive_a_crash(equipped: Equipped) -> None:
    """What was confirmed before a kill -9 is there after the next start, on the same port."""
    node = equipped.node
    async with await aio_pika.connect(node.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue("letters", durable=True)
        letter = aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(letter, "letters")
    # A confirm is about the message. That of a queue's declaration is written a little later, where Mnesia keeps it.
    await asyncio.to_thread(node.run_ctl, "eval", "catch mnesia:sync_log().")
    crashed = node.pid
    node.kill()
    assert not node.is_answering()
    await asyncio.to_thread(node.start)
    assert node.pid != crashed
    async with await aio_pika.connect(node.url) as connection:
        queue = await (await connection.channel()).get_queue("letters")
        message = await queue.get(timeout=10)
        await message.ack()
    assert message.body == b"kept"


def test_closed_node_leaves_nothing(place: Path) -> None:
    """After the end of the block no process of the node, epmd included, and no file is left, also after an error."""
    with pytest.raises(ZeroDivisionError), RabbitMqServer() as node:  # noqa: PT012 - the fault comes in mid-use
        names = {name.split()[0] for name in processes(place)}
        assert {"beam.smp", "epmd"} <= names
        node.freeze()
        raise ZeroDivisionError
    await_that(lambda: is_clean(place))
    assert not node.is_answering()


@pytest.mark.parametrize(
    ("style", "moment", "number"),
    [
        ("loop", "starting", signal.SIGINT),
        ("plain", "starting", signal.SIGINT),
        ("loop", "up", signal.SIGINT),
        ("plain", "up", signal.SIGKILL),
    ],
)
def test_interrupted_process_leaves_no_server(place: Path, style: str, moment: str, number: signal.Signals) -> None:
    """Ctrl-C or a kill of the process that uses the nodes takes the nodes with it, up or still starting."""
    env = {**os.environ, "TMPDIR": str(place)}
    user = subprocess.Popen([sys.executable, "-c", USER, style], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with user:
        try:
            assert user.stdout is not None
            if moment == "up":
                assert user.stdout.readline() == b"up\n"
            else:
                await_that(lambda: any(name.startswith("beam") for name in processes(place)))
            user.send_signal(number)
            assert user.wait(20) == -number
        finally:
            user.kill()
    await_that(lambda: is_clean(place))


async def test_cancelled_start_leaves_nothing(place: Path) -> None:
    """Cancelling the task that is entering a node takes the half-started node away."""
    node = RabbitMqServer()
    entering = asyncio.create_task(node.__aenter__())
    await asyncio.to_thread(await_that, lambda: any(name.startswith("beam") for name in processes(place)))
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    await asyncio.to_thread(await_that, lambda: is_clean(place))


def test_node_that_cannot_start_reports_reason(place: Path) -> None:
    """An invalid line of configuration ends the start at once; the error quotes the server, and nothing is left."""
    with (
        pytest.raises(ServerFailedError, match=r"(?s)ended while starting.*no_such_setting"),
        RabbitMqServer(config=["no_such_setting = 1"]),
    ):
        pytest.fail("it started")
    await_that(lambda: is_clean(place))


async def test_frozen_node_is_silent_until_thawed(equipped: Equipped) -> None:
    """A frozen node accepts connections but says nothing; thawed, it answers again."""
    equipped.node.freeze()
    assert not await asyncio.to_thread(equipped.node.is_answering)
    equipped.node.thaw()
    await asyncio.to_thread(await_that, equipped.node.is_answering)


async def test_ctl_reports_refusal_and_timeout(rabbit: RabbitMqServer) -> None:
    """A refused command and one that takes too long both raise, with the command's name."""
    assert "/" in (await rabbit.ctl("list_vhosts")).split()
    with pytest.raises(ServerFailedError, match="rabbitmqctl no_such_command"):
        await rabbit.ctl("no_such_command")
    with pytest.raises(ServerFailedError, match=r"rabbitmqctl list_vhosts took longer than 0\.01 s"):
        await rabbit.ctl("list_vhosts", deadline=0.01)


def test_plugins_answer_on_separate_ports(equipped: Equipped) -> None:
    """An enabled Prometheus plugin serves metrics on the port that the node names."""
    url = f"http://127.0.0.1:{equipped.node.plugin_ports['rabbitmq_prometheus']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as reply:
        assert b"rabbitmq_connections" in reply.read()


def test_tls_listener_is_configured_by_caller(equipped: Equipped) -> None:
    """A TLS listener given as configuration lines completes a handshake that trusts the caller's authority."""
    context = ssl.create_default_context(cafile=equipped.authority)
    with (
        socket.create_connection(("127.0.0.1", equipped.tls_port), timeout=10) as wire,
        context.wrap_socket(wire, server_hostname="localhost") as secured,
    ):
        assert secured.version() == "TLSv1.3"


def test_restarted_redis_is_empty_on_same_port(place: Path) -> None:
    """A Redis node is killed, restarted and frozen like any other, forgets its keys, and leaves nothing."""
    with RedisServer() as node, closing(redis.Redis.from_url(node.url, socket_timeout=1)) as client:
        client.set("claim", "mine")
        node.kill()
        assert not node.is_answering()
        node.start()
        assert client.get("claim") is None
        node.freeze()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        node.thaw()
        assert client.ping()
    await_that(lambda: is_clean(place))


def test_missing_server_is_reported_in_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where a server is not installed, entering a node says which package is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("worker.tools.servers.rabbitmq.PACKAGED_SCRIPTS", tmp_path)
    with pytest.raises(ServerUnavailableError, match=r"install the package rabbitmq-server\.$"), RabbitMqServer():
        pytest.fail("it started")
    with pytest.raises(ServerUnavailableError, match=r"install the package redis-server\.$"), RedisServer():
        pytest.fail("it started")


def test_free_ports_are_distinct_and_below_ephemeral_range() -> None:
    """Free ports are all different and below the system's range for outgoing connections."""
    given = [free_port() for _ in range(200)]
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert len(set(given)) == 200
    assert max(given) < lowest

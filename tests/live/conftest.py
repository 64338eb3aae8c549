"""Real servers for the tests in this folder: one shared RabbitMQ with a fresh vhost per test, or a private one."""

import json
import os
import socket
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from pamqp.commands import Connection
from pamqp.frame import unmarshal

from tests.fakes.servers import RabbitMqServer, RedisServer
from worker.tools.servers.rabbitmq import PROTOCOL_HEADER

HERE = Path(__file__).parent
SERIES = "TEST_RABBITMQ"  # which series of RabbitMQ is meant to be tested, `4.3` for example; unset: whichever it is
BATCH = 20  # rabbitmqctl takes half a second however many vhosts it makes

collect_ignore = [] if SERIES in os.environ else ["test_leader_lost.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is `live`, and comes first: files that take long must not be the last ones that run."""
    items.sort(key=lambda item: HERE not in item.path.parents)
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("live")


class Vhosts:
    """Fresh vhosts on one node, made in batches. They are never removed: the node itself is."""

    def __init__(self, node: RabbitMqServer, folder: Path) -> None:
        self._node, self._definitions = node, folder / "vhosts.json"
        self._numbers = count(1)
        self._ready: list[str] = []

    def take(self) -> str:
        """The AMQP URL of an unused vhost."""
        if not self._ready:
            self._make()
        return self._node.vhost_url(self._ready.pop())

    def _make(self) -> None:
        names = [f"test-{next(self._numbers)}" for _ in range(BATCH)]
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        definitions = {
            "vhosts": [{"name": name} for name in names],
            "permissions": [{"user": "guest", "vhost": name, **everything} for name in names],
        }
        self._definitions.write_text(json.dumps(definitions))
        self._node.run_ctl("import_definitions", str(self._definitions))
        self._ready = names


def server_version(node: RabbitMqServer) -> str:
    """The version that a node says it is of when it opens a connection."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as wire:
        wire.sendall(PROTOCOL_HEADER)
        _, _, start = unmarshal(wire.recv(1 << 16))
    assert isinstance(start, Connection.Start)
    return str(start.server_properties["version"])


@pytest.fixture(scope="session")
def rabbit() -> Iterator[RabbitMqServer]:
    """The RabbitMQ node that the whole session shares: not to be stopped, frozen or alarmed."""
    with RabbitMqServer() as node:
        meant, found = os.environ.get(SERIES, ""), server_version(node)
        if meant and not found.startswith(f"{meant}."):
            # Not pytest.exit: where tests run in several processes the sentence would not be shown.
            pytest.fail(f"{SERIES} is {meant}, but this is RabbitMQ {found}", pytrace=False)
        yield node


@pytest.fixture(scope="session")
def vhosts(rabbit: RabbitMqServer, tmp_path_factory: pytest.TempPathFactory) -> Vhosts:
    """Where fresh vhosts of the shared node come from."""
    return Vhosts(rabbit, tmp_path_factory.mktemp("vhosts"))


@pytest.fixture
def vhost(vhosts: Vhosts) -> str:
    """The AMQP URL of a vhost of this test only, on the shared node."""
    return vhosts.take()


@pytest.fixture
def own_rabbit() -> Iterator[RabbitMqServer]:
    """A RabbitMQ node of this test only, which it may stop, freeze or overload."""
    with RabbitMqServer() as node:
        yield node


@pytest.fixture
def redis_node() -> Iterator[RedisServer]:
    """A Redis server of this test only."""
    with RedisServer() as node:
        yield node

"""Private servers for the demo, each on a free loopback port and in a new folder; `tests/fakes/servers.py` has more."""

from worker.tools.servers.rabbitmq import RabbitMqContainer, RabbitMqNode, open_broker
from worker.tools.servers.server import (
    LOOPBACK,
    ChildProcesses,
    PrivateServer,
    ServerFailedError,
    ServerUnavailableError,
    free_port,
    replies_with,
)

__all__ = [
    "LOOPBACK",
    "ChildProcesses",
    "PrivateServer",
    "RabbitMqContainer",
    "RabbitMqNode",
    "ServerFailedError",
    "ServerUnavailableError",
    "free_port",
    "open_broker",
    "replies_with",
]

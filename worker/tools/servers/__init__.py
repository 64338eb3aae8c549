"""Private servers for the demo, each on a free loopback port and in a new folder; `tests/fakes/servers.py` has more."""

from worker.tools.servers.rabbitmq import RabbitMqNode, new_broker
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
    "RabbitMqNode",
    "ServerFailedError",
    "ServerUnavailableError",
    "free_port",
    "new_broker",
    "replies_with",
]

"""Private servers for demo and tests: RabbitMQ and Redis, each on a free loopback port and in a new folder."""

from worker.tools.servers.rabbitmq import RabbitMqContainer, RabbitMqServer, open_broker
from worker.tools.servers.server import (
    PrivateServer,
    RedisServer,
    ServerFailedError,
    ServerUnavailableError,
    free_port,
)

__all__ = [
    "PrivateServer",
    "RabbitMqContainer",
    "RabbitMqServer",
    "RedisServer",
    "ServerFailedError",
    "ServerUnavailableError",
    "free_port",
    "open_broker",
]

"""Private servers for the demo and the tests: RabbitMQ and Redis on ports and in folders of their own."""

from worker.tools.servers.broker import RabbitMqContainer, open_broker
from worker.tools.servers.ports import free_port
from worker.tools.servers.rabbitmq import RabbitMqServer
from worker.tools.servers.redis import RedisServer
from worker.tools.servers.server import PrivateServer, ServerFailedError, ServerUnavailableError

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

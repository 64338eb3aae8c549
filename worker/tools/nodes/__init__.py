"""Private servers for the demo and the tests: RabbitMQ and Redis on ports and in folders of their own."""

from worker.tools.nodes.broker import ContainerNode, open_broker
from worker.tools.nodes.node import Node, NodeFailed, NodeUnavailable
from worker.tools.nodes.ports import free_port
from worker.tools.nodes.rabbit import RabbitNode
from worker.tools.nodes.redis import RedisNode

__all__ = [
    "ContainerNode",
    "Node",
    "NodeFailed",
    "NodeUnavailable",
    "RabbitNode",
    "RedisNode",
    "free_port",
    "open_broker",
]

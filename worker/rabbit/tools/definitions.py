"""The topology, its policy and the least rights of its users, in the format of `rabbitmqctl import_definitions`.

An import adds what is missing and takes nothing away. It contains no user: importing one would set its password.
Rights belong to users by name, who have to exist first.
"""

import re
from typing import Any, Final

from schemas import names
from worker.rabbit.topology import Topology

WORKER: Final = "dcs-worker"
SENDER: Final = "dcs-sender"
READER: Final = "dcs-reader"
NOTHING: Final = "^$"
PARKED_DELIVERY_LIMIT: Final = 1_000_000
"""By default RabbitMQ 4.0 and newer drop a message that was read, and returned, more than 20 times."""


def definitions(topology: Topology, vhost: str) -> dict[str, list[dict[str, Any]]]:
    """Exchanges, queues and bindings, equal to what the worker declares, and the policy of the parked queue."""
    durable = {"vhost": vhost, "durable": True, "auto_delete": False}
    return {
        "vhosts": [{"name": vhost}],
        "exchanges": [
            {"name": exchange.name, **durable, "type": exchange.type, "internal": False, "arguments": {}}
            for exchange in topology.exchanges
        ],
        "queues": [{"name": queue.name, **durable, "arguments": queue.all_arguments} for queue in topology.queues],
        "bindings": [
            {
                "source": binding.exchange,
                "vhost": vhost,
                "destination": binding.queue,
                "destination_type": "queue",
                "routing_key": binding.key,
                "arguments": {},
            }
            for binding in topology.bindings
        ],
        "policies": [
            {
                "vhost": vhost,
                "name": names.parked_queue(topology.requests_queue),
                "pattern": f"^{pattern(names.parked_queue(topology.requests_queue))}$",
                "apply-to": "queues",
                "definition": {"delivery-limit": PARKED_DELIVERY_LIMIT},
                "priority": 0,
            }
        ],
    }


def permissions(topology: Topology, vhost: str) -> dict[str, list[dict[str, str]]]:
    """What each user needs once the topology exists, and no more.

    The worker answers to any queue that `reply_to` names, and copies requests: both through the default exchange.
    A reader has the queues whose names begin with its own.
    """
    requests, events = (pattern(exchange.name) for exchange in topology.exchanges)
    consumed = pattern(topology.requests_queue)
    if topology.follow_up_queues:
        consumed = f"({consumed}|{pattern(topology.follow_up_queues[0])})"
    queue, own = pattern(topology.requests_queue), rf"{pattern(READER)}\..+"
    rights = (
        (WORKER, rf"^{queue}\.lock\.[0-9a-f]+$", rf"^(amq\.default|{events})$", f"^{consumed}$"),
        (SENDER, NOTHING, f"^{requests}$", NOTHING),
        (READER, f"^{own}$", f"^{own}$", f"^({events}|{own})$"),
    )
    return {
        "permissions": [
            {"user": user, "vhost": vhost, "configure": configure, "write": write, "read": read}
            for user, configure, write, read in rights
        ]
    }


def pattern(name: str) -> str:
    """A pattern of exactly this name, as readable as it can be."""
    return re.escape(name).replace("\\-", "-")

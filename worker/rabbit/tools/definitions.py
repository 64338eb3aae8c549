"""The topology and the least rights of those who use it, in the format that RabbitMQ imports.

`rabbitmqctl import_definitions` adds what is missing and takes nothing away. No user is in it: importing one would
set its password. Rights belong to users by name, who have to be there first.
"""

import re
from typing import Any, Final

from worker.rabbit.topology import Topology

WORKER: Final = "dcs-worker"
SENDER: Final = "dcs-sender"
READER: Final = "dcs-reader"
NOTHING: Final = "^$"


def definitions(plan: Topology, vhost: str) -> dict[str, list[dict[str, Any]]]:
    """Exchanges, queues and bindings, equal to what the worker declares."""
    kept = {"vhost": vhost, "durable": True, "auto_delete": False}
    return {
        "vhosts": [{"name": vhost}],
        "exchanges": [
            {"name": one.name, **kept, "type": one.type, "internal": False, "arguments": {}} for one in plan.exchanges
        ],
        "queues": [{"name": one.name, **kept, "arguments": one.all_arguments} for one in plan.queues],
        "bindings": [
            {
                "source": one.exchange,
                "vhost": vhost,
                "destination": one.queue,
                "destination_type": "queue",
                "routing_key": one.key,
                "arguments": {},
            }
            for one in plan.bindings
        ],
    }


def permissions(plan: Topology, vhost: str) -> dict[str, list[dict[str, str]]]:
    """What each user needs once the topology is there, and no more.

    The worker answers to whatever queue `reply_to` names, and copies requests: both through the default exchange.
    A reader has the queues whose names begin with its own.
    """
    (requests, events), queue = (one.name for one in plan.exchanges), plan.requests_queue
    own = rf"{pattern(READER)}\..+"
    return {
        "permissions": [
            _granted(
                vhost,
                WORKER,
                rf"^{pattern(queue)}\.lock\.[0-9a-f]+$",
                rf"^(amq\.default|{pattern(events)})$",
                f"^{pattern(queue)}$",
            ),
            _granted(vhost, SENDER, NOTHING, f"^{pattern(requests)}$", NOTHING),
            _granted(vhost, READER, f"^{own}$", f"^{own}$", f"^({pattern(events)}|{own})$"),
        ]
    }


def pattern(name: str) -> str:
    """A pattern of exactly this name, as readable as it can be."""
    return re.escape(name).replace("\\-", "-")


def _granted(vhost: str, user: str, configure: str, write: str, read: str) -> dict[str, str]:
    return {"user": user, "vhost": vhost, "configure": configure, "write": write, "read": read}

"""What spans tell: OpenTelemetry semantic conventions 1.44 for messaging (RabbitMQ) and HTTP, and names of our own.

No attribute bears a body, a text of a sender other than his ids, a query, or a header.
"""

from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import urlsplit

from worker.policy.facts import Settled
from worker.policy.fault import Done, Fault, Sighting

Attributes = dict[str, str | int]

PATHS: Final = {
    "create": "/v2/{project_id}/migration/instance",
    "list": "/v2/{project_id}/migration-tasks",
    "show": "/v2/{project_id}/migration-task/{task_id}",
    "token": "/v3/auth/tokens",
}
"""What spans of calls are named after, by operation: paths themselves are too many."""
OURS: Final = "dcs_worker."


class Incoming(Protocol):
    """A message as it was delivered."""

    @property
    def body(self) -> bytes:
        """The message body."""
        ...

    @property
    def headers(self) -> Mapping[str, object]:
        """Message headers."""
        ...

    @property
    def message_id(self) -> str | None:
        """AMQP message-id."""
        ...

    @property
    def correlation_id(self) -> str | None:
        """AMQP correlation-id."""
        ...


def rabbitmq(name: str, type_: str, destination: str) -> dict[str, str | int | None]:
    """An operation on a message; `destination` is a queue, or an exchange and a key."""
    return {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": name,
        "messaging.operation.type": type_,
        "messaging.destination.name": destination,
    }


def known(attributes: Mapping[str, str | int | None]) -> Attributes:
    """Without those that have no value."""
    return {name: value for name, value in attributes.items() if value is not None}


def of_delivery(delivery: Incoming, queue: str) -> Attributes:
    """A delivery that begins."""
    return known(
        {
            **rabbitmq("process", "process", queue),
            "messaging.message.id": delivery.message_id,
            "messaging.message.conversation_id": delivery.correlation_id,
            "messaging.message.body.size": len(delivery.body),
        }
    )


def of_call(operation: str, method: str, url: str) -> Attributes:
    """A call that begins. The query may hold a text of the sender, and the user's part a password."""
    where = urlsplit(url)
    return known(
        {
            "http.request.method": method,
            "server.address": where.hostname,
            "server.port": where.port or (443 if where.scheme == "https" else 80),
            "url.full": where._replace(netloc=where.netloc.rpartition("@")[2], query="", fragment="").geturl(),
            "url.template": PATHS.get(operation),
        }
    )


def of_settled(fact: Settled) -> Attributes:
    """A delivery that is over."""
    said: Attributes = {
        "outcome": fact.outcome,
        "reason": fact.reason,
        "attempts": fact.envelope.attempts,
        "round": fact.envelope.round,
        "deliveries": fact.envelope.deliveries,
    }
    if fact.parked:
        said["parked"] = True
    if (order := fact.order) is not None:
        said |= {"request_id": order.request_id, "project_id": order.project_id, "region": order.region}
    return {OURS + name: value for name, value in said.items()}


def of_ending(ending: Done | Sighting | Fault) -> Attributes:
    """What a call, or a look-up of several, proved."""
    said: dict[str, str | int | None] = {"ending": type(ending).__name__.lower()}
    if isinstance(ending, Fault):
        said |= {"label": ending.label, "evidence": ending.evidence.value, "error_code": ending.error_code}
    said["dcs_request_id"] = getattr(ending, "dcs_request_id", None)
    return {OURS + name: value for name, value in known(said).items()}

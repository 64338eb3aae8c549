"""Attributes of spans: OpenTelemetry semantic conventions 1.44 for messaging (RabbitMQ) and HTTP, and `dcs_worker.*`.

No attribute holds a body, a query, a header, or a sender's text other than ids.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from worker.policy.delivery_report import DeliveryFinished

Attributes = dict[str, str | int]

URL_TEMPLATES: Final = {
    "create": "/v2/{project_id}/migration/instance",
    "list": "/v2/{project_id}/migration-tasks",
    "show": "/v2/{project_id}/migration-task/{task_id}",
    "job": "/v2/{project_id}/jobs/{job_id}",
    "token": "/v3/auth/tokens",
}
"""Names of call spans by operation; the paths themselves would be too many names."""
ATTRIBUTE_PREFIX: Final = "dcs_worker."


def messaging_attributes(name: str, type_: str, destination: str) -> dict[str, str | int | None]:
    """Attributes of an operation on a message; `destination` is a queue, or an exchange and a key."""
    return {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": name,
        "messaging.operation.type": type_,
        "messaging.destination.name": destination,
    }


def without_none(attributes: Mapping[str, str | int | None]) -> Attributes:
    """Drop the attributes without a value."""
    return {name: value for name, value in attributes.items() if value is not None}


def delivery_attributes(delivery: Any, queue: str) -> Attributes:
    """Attributes of a delivery (the broker's room has its class) at its start."""
    return without_none(
        {
            **messaging_attributes("process", "process", queue),
            "messaging.message.id": delivery.message_id,
            "messaging.message.conversation_id": delivery.correlation_id,
            "messaging.message.body.size": len(delivery.body),
        }
    )


def call_attributes(operation: str, method: str, url: str) -> Attributes:
    """Attributes of a call at its start, without query (a sender's text) and user part (a password)."""
    parts = urlsplit(url)
    return without_none(
        {
            "http.request.method": method,
            "server.address": parts.hostname,
            "server.port": parts.port or (443 if parts.scheme == "https" else 80),
            "url.full": parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl(),
            "url.template": URL_TEMPLATES.get(operation),
        }
    )


def settled_attributes(fact: DeliveryFinished) -> Attributes:
    """Attributes of a handled delivery."""
    values: Attributes = {
        "outcome": fact.outcome,
        "reason": fact.reason,
        "attempts": fact.envelope.attempts,
        "round": fact.envelope.round,
        "deliveries": fact.envelope.deliveries,
    }
    if fact.parked:
        values["parked"] = True
    if fact.is_repeated:
        values["repeated"] = True
    if (migration := fact.migration) is not None:
        values |= {"request_id": migration.request_id, "project_id": migration.project_id, "region": migration.region}
    return {ATTRIBUTE_PREFIX + name: value for name, value in values.items()}

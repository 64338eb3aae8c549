"""Writes the AsyncAPI 3.0 document of the worker's messages: `python -m schemas.asyncapi [FILE]`.

Its payloads are the generated JSON Schemas, its examples the committed ones; the committed file has the default names.
It stands alone: this one file has everything. https://www.asyncapi.com/docs/reference/specification/v3.0.0,
AMQP bindings 0.3.0.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from . import names
from .asyncapi_messages import BINDING, messages, payloads
from .event import FAILED_KEY, PROVISIONED_KEY, PROVISIONING_FAILED_KEY, SUCCEEDED_KEY
from .generate import Schema, render

FILE: Final = Path(__file__).parent / "asyncapi.json"
VERSION: Final = "1.1.0"
"""Of the contract: an event type ends in its first number, and the second rises with every addition."""

ABOUT: Final = """\
Upstream services publish requests; for each the worker creates exactly one online data migration task in Huawei
Cloud's Distributed Cache Service, and publishes how it ended.

- The identity of a request is `request_id` within its `project_id`: two messages with one id are one request.
- Events have one id per outcome (`message_id` and `cloudEvents:id`), however often they are published: drop repeats.
- Events are persistent and confirmed before the request is acknowledged.
- With WORKER_FOLLOW_UP=true, one more event says whether the created task became ready (`provisioned`) or not
  (`provisioning_failed`).
- WORKER_QUEUE, WORKER_REQUEST_EXCHANGE and WORKER_EVENT_EXCHANGE of the worker change the names."""


@dataclass(frozen=True, slots=True)
class BrokerNames:
    """What the settings of a worker call its queue, its exchanges and their virtual host."""

    queue: str = names.REQUEST_QUEUE
    request_exchange: str = names.REQUEST_EXCHANGE
    event_exchange: str = names.EVENT_EXCHANGE
    vhost: str = "/"


def document(broker_names: BrokerNames | None = None) -> Schema:
    """The whole document, with the default names unless others are given."""
    return {
        "asyncapi": "3.0.0",
        "id": "urn:dcs-migration-worker",
        "info": {"title": "dcs-migration-worker", "version": VERSION, "description": ABOUT},
        "defaultContentType": names.JSON,
        "servers": {"broker": _server()},
        "channels": _channels(broker_names or BrokerNames()),
        "operations": _operations(),
        "components": {"messages": messages(), "schemas": payloads(), "securitySchemes": {"login": _LOGIN}},
    }


def main(arguments: Sequence[str]) -> None:
    """Write into the file that `arguments` name, else where the committed one is."""
    Path(arguments[0] if arguments else FILE).write_text(render(document()), encoding="utf-8")


_LOGIN: Final = {"type": "userPassword", "description": "A user of the broker."}


def _server() -> Schema:
    return {
        "host": "{host}:{port}",
        "protocol": "amqp",
        "protocolVersion": "0-9-1",
        "description": "RabbitMQ 3.10 to 4.x; over TLS (`amqps`) as well.",
        "variables": {"host": {"default": "localhost"}, "port": {"default": "5672"}},
        "security": [_ref("components/securitySchemes/login")],
    }


def _channels(called: BrokerNames) -> Schema:
    requests = _exchange(called.request_exchange, "direct", called.vhost)
    events = _exchange(called.event_exchange, "topic", called.vhost)
    waiting, parked = (_queue(name, called.vhost) for name in (called.queue, names.parked_queue(called.queue)))
    return {
        "requests": _channel(names.REQUEST_KEY, "Where senders publish requests.", requests, "request"),
        "requestsQueue": _channel(called.queue, "Where requests wait; bound to `requests`.", waiting, "request"),
        "parkedQueue": _channel(
            names.parked_queue(called.queue), "Requests that need an operator.", parked, "parkedRequest"
        ),
        "succeeded": _channel(SUCCEEDED_KEY, "Tasks that exist.", events, "migrationSucceeded"),
        "failed": _channel(FAILED_KEY, "Requests that failed.", events, "migrationFailed"),
        "provisioned": _channel(PROVISIONED_KEY, "Tasks that are ready.", events, "migrationProvisioned"),
        "provisioningFailed": _channel(
            PROVISIONING_FAILED_KEY, "Tasks that are not ready.", events, "migrationProvisioningFailed"
        ),
        "replies": {
            "address": None,
            "description": "The queue that the request's `reply_to` names, or `amq.rabbitmq.reply-to`.",
            "messages": _refs("components/messages", ("migrationSucceeded", "migrationFailed")),
        },
    }


def _channel(address: str, description: str, binding: Schema, message: str) -> Schema:
    return {
        "address": address,
        "description": description,
        "messages": _refs("components/messages", (message,)),
        "bindings": {"amqp": {**binding, **BINDING}},
    }


def _exchange(name: str, type_: str, vhost: str) -> Schema:
    exchange = {"name": name, "type": type_, "durable": True, "autoDelete": False, "vhost": vhost}
    return {"is": "routingKey", "exchange": exchange}


def _queue(name: str, vhost: str) -> Schema:
    queue = {"name": name, "durable": True, "exclusive": False, "autoDelete": False, "vhost": vhost}
    return {"is": "queue", "queue": queue}


def _operations() -> Schema:
    reply = {
        "address": {"description": "AMQP property `reply_to`.", "location": "$message.header#/reply_to"},
        "channel": _ref("channels/replies"),
    }
    confirmed = {"deliveryMode": 2, **BINDING}
    return {
        "receiveRequest": {
            **_operation("receive", "requests", "Create the task that a request asks for.", {"ack": True, **BINDING}),
            "reply": reply,
        },
        "sendSucceeded": _operation("send", "succeeded", "Say that the task exists.", confirmed),
        "sendFailed": _operation("send", "failed", "Say that the request failed, and why.", confirmed),
        "sendProvisioned": _operation("send", "provisioned", "Say that the task is ready.", confirmed),
        "sendProvisioningFailed": _operation("send", "provisioningFailed", "Say that it is not ready.", confirmed),
        "parkRequest": _operation("send", "parkedQueue", "Park a request for an operator.", confirmed),
    }


def _operation(action: str, channel: str, summary: str, binding: Schema) -> Schema:
    return {"action": action, "channel": _ref(f"channels/{channel}"), "summary": summary, "bindings": {"amqp": binding}}


def _ref(path: str) -> Schema:
    return {"$ref": f"#/{path}"}


def _refs(path: str, keys: Iterable[str]) -> dict[str, Any]:
    return {key: _ref(f"{path}/{key}") for key in keys}


if __name__ == "__main__":
    main(sys.argv[1:])

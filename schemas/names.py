"""Names on the broker and in message headers: one place for the worker, its senders and its readers."""

from decimal import Decimal
from typing import Final

REQUEST_QUEUE: Final = "dcs.migration.requests"
REQUEST_EXCHANGE: Final = "dcs.migration"
REQUEST_KEY: Final = "create"
EVENT_EXCHANGE: Final = "dcs.migration.events"

RETRY_INFIX: Final = ".retry."
FOLLOW_UP_SUFFIX: Final = ".follow-up"
FOLLOW_UP_DELAYS: Final = (10, 10, 20, 30, 60)
"""Seconds before each look at a created task; the last one repeats."""

JSON: Final = "application/json"
DIRECT_REPLY_TO: Final = "amq.rabbitmq.reply-to"
"""RabbitMQ's pseudo-queue for answers to the publishes of one channel: it needs no queue and no right."""

# State that a request carries from delivery to delivery.
ATTEMPTS: Final = "x-attempts"
ROUND: Final = "x-round"
DELIVERIES: Final = "x-deliveries"
INTERRUPTIONS: Final = "x-interruptions"
REPLAYS: Final = "x-replays"
FIRST_RECEIVED_AT: Final = "x-first-received-at"
MAY_BE_OLDER: Final = "x-may-be-older"
LAST_SENT_AT: Final = "x-last-sent-at"
LAST_ERROR: Final = "x-last-error"
# Properties that a copy cannot carry as such: the one would delete it, the other would have it refused.
EXPIRATION: Final = "x-expiration"
USER_ID: Final = "x-user-id"
# What a watch carries: a message in the follow-up queues, of which each stands for one created task.
STAGE: Final = "x-stage"
FOLLOW_UP: Final = "follow-up"
TASK_ID: Final = "x-task-id"
JOB_ID: Final = "x-job-id"
STATE: Final = frozenset(
    (
        *(ATTEMPTS, ROUND, DELIVERIES, INTERRUPTIONS, REPLAYS, FIRST_RECEIVED_AT, MAY_BE_OLDER),
        *(LAST_SENT_AT, LAST_ERROR, STAGE, TASK_ID, JOB_ID),
    )
)
# A copy has these only if a worker wrote them.
MOVED_PROPERTIES: Final = frozenset((EXPIRATION, USER_ID))

# What was done for a request, for people: it is no state, and nothing is decided by it.
JOURNAL: Final = "x-journal"

# What a parked request says about itself.
PARKED_PREFIX: Final = "x-parked-"
PARKED_REASON: Final = "x-parked-reason"
PARKED_ERROR_CODE: Final = "x-parked-error-code"
PARKED_AT: Final = "x-parked-at"

# What the broker counts. Its own count is believed only together with its redelivered flag:
# RabbitMQ 4.x leaves a first delivery without one, so there it would be the sender's word.
DELIVERY_COUNT: Final = "x-delivery-count"
# Dead-lettering history; a copy that carries it is taken for a cycle and dropped by brokers before 4.0.1
# (https://www.rabbitmq.com/docs/dlx), and CC/BCC would route the copy a second time.
DEATHS: Final = "x-death"
DEATH_PREFIXES: Final = (DEATHS, "x-first-death-", "x-last-death-")
BROKER: Final = frozenset((DELIVERY_COUNT, "x-acquired-count", "CC", "BCC"))

# On an event that answers a message from memory.
REPEATED: Final = "x-repeated"

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

SCHEMA_VERSION: Final = 1
"""Of the JSON Schemas; it changes when a reader of the old ones could not read the new messages."""


def schema_id(name: str) -> str:
    """The `$id` of the JSON Schema of that name."""
    return f"urn:dcs-migration-worker:schema:{name}:v{SCHEMA_VERSION}"


def retry_queue(queue: str, seconds: float) -> str:
    """Name of the retry queue of the requests queue `queue` with this delay, in whole milliseconds: `….retry.0.5s`.

    Named by its delay, so that a changed schedule never meets a queue with other arguments.
    """
    return f"{queue}{RETRY_INFIX}{(Decimal(round(seconds * 1000)) / 1000).normalize():f}s"


def follow_up_queue(queue: str, checks: int | None = None) -> str:
    """Name of the queue of watches, or of the one in which a watch waits for the look after `checks` looks."""
    if checks is None:
        return f"{queue}{FOLLOW_UP_SUFFIX}"
    return f"{queue}{FOLLOW_UP_SUFFIX}.{FOLLOW_UP_DELAYS[min(checks, len(FOLLOW_UP_DELAYS) - 1)]}s"


def parked_queue(queue: str) -> str:
    """Name of the queue for requests of `queue` that need an operator."""
    return f"{queue}.parked"

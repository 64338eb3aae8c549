"""Names on the broker and in message headers: one place for the worker, its senders and its readers."""

from typing import Final

REQUEST_QUEUE: Final = "dcs.migration.requests"
REQUEST_EXCHANGE: Final = "dcs.migration"
REQUEST_KEY: Final = "create"
EVENT_EXCHANGE: Final = "dcs.migration.events"

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
LAST_SENT_AT: Final = "x-last-sent-at"
# Properties that a copy cannot carry as such: the one would delete it, the other would have it refused.
EXPIRATION: Final = "x-expiration"
USER_ID: Final = "x-user-id"
STATE: Final = frozenset((ATTEMPTS, ROUND, DELIVERIES, INTERRUPTIONS, REPLAYS, FIRST_RECEIVED_AT, LAST_SENT_AT))

# What was done for a request, for people: it is no state, and nothing is decided by it.
JOURNAL: Final = "x-journal"

# What a parked request says about itself.
PARKED_REASON: Final = "x-parked-reason"
PARKED_ERROR_CODE: Final = "x-parked-error-code"
PARKED_AT: Final = "x-parked-at"

# What the broker counts. Its own count is believed only together with its redelivered flag:
# RabbitMQ 4.x leaves a first delivery without one, so there it would be the sender's word.
DELIVERY_COUNT: Final = "x-delivery-count"
# Dead-lettering history; a copy that carries it is taken for a cycle and dropped by brokers before 4.0.1
# (https://www.rabbitmq.com/docs/dlx), and CC/BCC would route the copy a second time.
DEATH_PREFIXES: Final = ("x-death", "x-first-death-", "x-last-death-")
BROKER: Final = frozenset((DELIVERY_COUNT, "x-acquired-count", "CC", "BCC"))

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"


def retry_queue(queue: str, retry_level: int) -> str:
    """Name of the retry queue of `place` (1 is the first) of the requests queue `queue`."""
    return f"{queue}.retry.{retry_level}"


def parked_queue(queue: str) -> str:
    """Name of the queue for requests of `queue` that need an operator."""
    return f"{queue}.parked"

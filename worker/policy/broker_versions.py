"""What the broker's version implies: which returns count as deliveries, and which limits hold by default.

Sources: https://www.rabbitmq.com/docs/quorum-queues ("When is delivery count incremented?", "Poison Message
Handling", "Consumer Timeout", "Consumer Disconnected Timeout"), release notes of 4.0 and 4.3, and
https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout. The worker depends on none of these: it counts
deliveries itself, and its queues carry their limit.
"""

import re
from typing import Final

from worker.policy.diagnostics import Check, failed, ok, warning

_RULES_SINCE_VERSION: Final = (
    (
        (4, 3),
        "a reject and a lost channel count as a delivery, nack, recover and time-outs do not; "
        "the delivery limit is 20 by default; an overdue acknowledgement cancels the consumer; "
        "what consumers of a lost node hold returns after 60 s by default",
    ),
    (
        (4, 0),
        "reject, nack and a lost channel count as a delivery; the delivery limit is 20 by default; "
        "an overdue acknowledgement closes the channel",
    ),
    (
        (3, 10),
        "reject, nack and a lost channel count as a delivery; there is no delivery limit by default; "
        "an overdue acknowledgement closes the channel",
    ),
)
_NEWEST_KNOWN: Final = (4, 3)
_VERSION: Final = re.compile(r"(\d{1,4})\.(\d{1,4})")


def check_version(product: str, version: str, subject: str) -> Check:
    """Judge what the broker says of itself."""
    name, product_version = "broker version", f"{product} {version}"
    if product != "RabbitMQ":
        remedy = "use RabbitMQ 3.10 to 4.x, or try every command of README.md against this broker first"
        return warning(name, f"{product_version}: nothing is known of this broker", remedy, subject=subject)
    match = _VERSION.match(version)
    number = (int(match[1]), int(match[2])) if match else (0, 0)
    rules = next((text for since, text in _RULES_SINCE_VERSION if number >= since), None)
    if rules is None:
        found = f"{product_version}: its quorum queues have neither message TTL nor at-least-once dead-lettering"
        return failed(name, found, "upgrade the broker to RabbitMQ 3.10 or newer", subject=subject)
    newer = ", taken to be as in 4.3" if number > _NEWEST_KNOWN else ""
    return ok(name, f"{product_version}{newer}: {rules}", subject=subject)

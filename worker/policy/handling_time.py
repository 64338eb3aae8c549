"""How long a delivery can stay unacknowledged, against the time that the broker allows for it."""

import math
from dataclasses import dataclass
from typing import Final

from worker.policy.diagnostics import Check, failed, ok, warning
from worker.policy.waiting import IN_HAND

DEFAULT_CONSUMER_TIMEOUT_SECONDS: Final = 1800.0
"""Seconds by default, on every version: https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout."""
CALLS_PER_TRY: Final = 2
"""In each try: one look-up (of one page) and one create."""


@dataclass(frozen=True, slots=True)
class HandlingTime:
    """What the handling of one delivery is made of. Durations in seconds, each the longest that there is."""

    tries: int
    permit_seconds: float
    """The wait until a call may be made."""
    credential_seconds: float
    """The wait for credentials to make it with."""
    call_seconds: float
    """The call itself."""
    other_seconds: float
    """The waits for other deliveries, and for confirms."""

    @property
    def worst_case_seconds(self) -> float:
        """Seconds from delivered to acknowledged, while the broker answers.

        All that is prefetched is worked on at once, so how much that is does not matter: neighbours cost a turn.
        """
        calls = self.tries * CALLS_PER_TRY * (self.permit_seconds + self.credential_seconds + self.call_seconds)
        return calls + (self.tries - 1) * IN_HAND + self.other_seconds


def check_consumer_timeout(handling_time: HandlingTime) -> Check:
    """Judge the worst case by the default time-out, since a client cannot read the server's.

    Half of it is left for what is not counted: further pages of a list, the second line that a throttled project's
    calls wait in, confirms that fail.
    """
    name, worst_case_seconds = "consumer_timeout", handling_time.worst_case_seconds
    found = (
        f"a request is in hand for {worst_case_seconds:.0f} s at worst "
        f"({handling_time.tries} tries of {CALLS_PER_TRY} calls, and all waits); "
        f"{DEFAULT_CONSUMER_TIMEOUT_SECONDS:.0f} s, the default, are assumed of the broker: "
        "AMQP does not tell its consumer_timeout, `rabbitmqctl environment` does"
    )
    enough = math.ceil(worst_case_seconds * 2 / 60) * 60_000
    remedy = f"lower WORKER_TRIES or WORKER_DCS_TIMEOUT, or set `consumer_timeout = {enough}` in rabbitmq.conf"
    if worst_case_seconds > DEFAULT_CONSUMER_TIMEOUT_SECONDS:
        return failed(name, found, remedy)
    if worst_case_seconds > DEFAULT_CONSUMER_TIMEOUT_SECONDS / 2:
        return warning(name, f"{found}, which is less than twice as much", remedy)
    return ok(name, found)

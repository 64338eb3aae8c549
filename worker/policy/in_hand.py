"""How long a delivery can stay unacknowledged, against the time that the broker allows for it."""

import math
from dataclasses import dataclass
from typing import Final

from worker.policy.checkup import Check, failed, ok, warning
from worker.policy.waiting import IN_HAND

CONSUMER_TIMEOUT: Final = 1800.0
"""Seconds by default, on every version: https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout."""
CALLS: Final = 2
"""In each try: one look-up (of one page) and one create."""


@dataclass(frozen=True, slots=True)
class Handling:
    """What the handling of one delivery is made of. Durations in seconds, each the longest that there is."""

    tries: int
    turn: float
    """The wait until a call may be made."""
    proof: float
    """The wait for credentials to make it with."""
    call: float
    """The call itself."""
    aside: float
    """The waits for other deliveries, and for confirms."""

    @property
    def longest(self) -> float:
        """Seconds from delivered to acknowledged, while the broker answers.

        All that is prefetched is worked on at once, so how much that is does not matter: neighbours cost a turn.
        """
        calls = self.tries * CALLS * (self.turn + self.proof + self.call)
        return calls + (self.tries - 1) * IN_HAND + self.aside


def check_consumer_timeout(handling: Handling) -> Check:
    """Judge the worst case by the default time-out, since a client cannot read the server's.

    Half of it is left for what is not counted: further pages of a list, the second line that a throttled project's
    calls wait in, confirms that fail.
    """
    name, longest = "consumer_timeout", handling.longest
    found = (
        f"a request is in hand for {longest:.0f} s at worst ({handling.tries} tries of {CALLS} calls, and all waits); "
        f"{CONSUMER_TIMEOUT:.0f} s, the default, are assumed of the broker: AMQP does not tell its consumer_timeout, "
        "`rabbitmqctl environment` does"
    )
    enough = math.ceil(longest * 2 / 60) * 60_000
    remedy = f"lower WORKER_TRIES or WORKER_DCS_TIMEOUT, or set `consumer_timeout = {enough}` in rabbitmq.conf"
    if longest > CONSUMER_TIMEOUT:
        return failed(name, found, remedy)
    if longest > CONSUMER_TIMEOUT / 2:
        return warning(name, f"{found}, which is less than twice as much", remedy)
    return ok(name, found)

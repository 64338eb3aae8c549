"""How long things take in the life of a replica (seconds)."""

from typing import Final

GIVEN_UP_AFTER: Final = 20.0
"""Of silence until the broker gives a client up: two heartbeats of 10 s."""
CUT_FOR: Final = 15.0
"""Without a network to the broker."""
NOTICED_AFTER: Final = 0.02
"""From the loss of a channel until its replica knows."""
REOPENED_AFTER: Final = 0.5
RESTARTED_AFTER: Final = 2.0
DRAIN: Final = 25.0
DELIVERED_AFTER: Final = 0.002
LATENCIES: Final = (0.001, 0.001, 0.003, 0.02)
"""Of a port call, each way."""

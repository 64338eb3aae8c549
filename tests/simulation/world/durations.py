"""How long things take in the life of a replica (seconds)."""

from typing import Final

HEARTBEAT_TIMEOUT_SECONDS: Final = 20.0
"""Of silence until the broker gives a client up: two heartbeats of 10 s."""
NETWORK_CUT_SECONDS: Final = 15.0
"""Without a network to the broker."""
LOSS_NOTICED_AFTER_SECONDS: Final = 0.02
"""From the loss of a channel until its replica knows."""
CHANNEL_REOPENED_AFTER_SECONDS: Final = 0.5
RESTART_SECONDS: Final = 2.0
DRAIN_SECONDS: Final = 25.0
DELIVERY_SECONDS: Final = 0.002
PORT_LATENCIES_SECONDS: Final = (0.001, 0.001, 0.003, 0.02)
"""Of a port call, each way."""

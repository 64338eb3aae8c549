"""Fault injection: the effect of each fault on a replica, the broker or the claims."""

from collections.abc import Callable, Sequence
from typing import Final

from tests.simulation.scenario.plan import RequestKey, TimedFault
from tests.simulation.world.broker import Broker
from tests.simulation.world.claims import RECONNECTED_AFTER_SECONDS, ROUNDING_SECONDS, ClaimStore
from tests.simulation.world.event_loop import Timers
from tests.simulation.world.records import DeliveryRecord
from tests.simulation.world.replica import Replica

BROKER_OUTAGE_SECONDS: Final = 3.0
CLAIMS_OUTAGE_SECONDS: Final = 60.0
LATER_BACK_SECONDS: Final = 2.0
"""Time by which the claims are back for each replica later than for the one before."""

REPLICA_FAULTS: Final[dict[str, Callable[[Replica], None]]] = {
    "crash": Replica.crash,
    "channel": Replica.lose_channel,
    "channel-here": lambda replica: replica.lose_channel(is_reopened_first=True),
    "cut": Replica.lose_network,
    "freeze": lambda replica: replica.freeze(60.0),
    "freeze-long": lambda replica: replica.freeze(150.0),
    "stall": lambda replica: replica.freeze(4.0),
    "drain": Replica.drain,
}


class FaultInjector:
    """Injector of faults. A fault of a single port call is left to that port."""

    def __init__(
        self,
        timers: Timers,
        broker: Broker,
        claim_store: ClaimStore,
        replicas: Sequence[Replica],
        send: Callable[[RequestKey], None],
    ) -> None:
        self._timers = timers
        self._replicas = replicas
        self._send = send
        self._claim_store = claim_store
        self._broker = broker

    def inject_at_time(self, timed_faults: TimedFault) -> None:
        """Inject a fault at a time of the plan."""
        replica = self._replicas[timed_faults.replica % len(self._replicas)]
        if not replica.process.has_ended:
            self.inject(replica, timed_faults.fault, None)

    def inject(self, replica: Replica, fault: str, delivery: DeliveryRecord | None) -> str | None:
        """Inject a fault at a port call of `replica`. A fault of the call itself is returned to the port."""
        if fault in REPLICA_FAULTS:
            REPLICA_FAULTS[fault](replica)
            return None
        match fault:
            case "broker":
                self._restart()
            case "claims-away":
                for number, each in enumerate(self._replicas):
                    self._cut_off(each, CLAIMS_OUTAGE_SECONDS + number * LATER_BACK_SECONDS)
            case "claims-cut":
                self._cut_off(replica, CLAIMS_OUTAGE_SECONDS)
            case "claims-flush":
                self._claim_store.empty(self._timers.now)
            case "copy" if delivery is not None:
                self._send(delivery.message.request_key)
            case _:
                return fault
        return None

    def _restart(self) -> None:
        for channel in self._broker.restart(BROKER_OUTAGE_SECONDS):
            assert isinstance(channel.consumer, Replica)
            channel.consumer.on_lost(channel, BROKER_OUTAGE_SECONDS)

    def _cut_off(self, replica: Replica, seconds: float) -> None:
        """Cut a replica off from the claims."""
        now = self._timers.now
        self._claim_store.become_unavailable(replica.name, now, now + seconds)
        self._timers.after(seconds + RECONNECTED_AFTER_SECONDS + ROUNDING_SECONDS, replica.claims_back)

"""What a fault does."""

from collections.abc import Callable, Sequence
from typing import Final

from tests.simulation.scenario.plan import Timed
from tests.simulation.world.broker import Broker
from tests.simulation.world.claims import Store
from tests.simulation.world.event_loop import Timers
from tests.simulation.world.records import Handed, Matter
from tests.simulation.world.replica import Replica

BROKER_AWAY: Final = 3.0
CLAIMS_AWAY: Final = 60.0
RETOLD_AFTER: Final = 5.0
"""Seconds after which a store that is back, or has forgotten, is told again."""

OF_REPLICAS: Final[dict[str, Callable[[Replica], None]]] = {
    "crash": Replica.crash,
    "channel": Replica.lose_channel,
    "channel-here": lambda replica: replica.lose_channel(prefer_self=True),
    "cut": Replica.cut,
    "freeze": lambda replica: replica.freeze(60.0),
    "freeze-long": lambda replica: replica.freeze(150.0),
    "stall": lambda replica: replica.freeze(4.0),
    "drain": Replica.drain,
}


class Strikes:
    """Lets faults happen. Those of one port call are the port's business."""

    def __init__(
        self,
        timers: Timers,
        broker: Broker,
        store: Store,
        replicas: Sequence[Replica],
        send: Callable[[Matter], None],
    ) -> None:
        self._timers = timers
        self._replicas = replicas
        self._send = send
        self._store = store
        self._broker = broker

    def at(self, timed: Timed) -> None:
        """Let a fault happen to a replica, whatever it does."""
        replica = self._replicas[timed.replica % len(self._replicas)]
        if not replica.life.is_gone:
            self.strike(replica, timed.fault, None)

    def strike(self, replica: Replica, fault: str, handed: Handed | None) -> str | None:
        """Let a fault happen where `replica` works on `handed`; one of the very port call is returned to it."""
        if fault in OF_REPLICAS:
            OF_REPLICAS[fault](replica)
            return None
        match fault:
            case "broker":
                self._restart()
            case "claims-away":
                self._store.leave(self._timers.now + CLAIMS_AWAY)
                self._retell(CLAIMS_AWAY + RETOLD_AFTER)
            case "claims-flush":
                self._store.forget(self._timers.now)
                self._retell(RETOLD_AFTER)
            case "copy" if handed is not None:
                self._send(handed.message.matter)
            case _:
                return fault
        return None

    def _restart(self) -> None:
        for channel in self._broker.restart(BROKER_AWAY):
            assert isinstance(channel.consumer, Replica)
            channel.consumer.on_lost(channel, BROKER_AWAY)

    def _retell(self, after: float) -> None:
        for replica in self._replicas:
            self._timers.after(after, replica.retell)

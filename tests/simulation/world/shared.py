"""What a replica is built from: the flow under proof, its stand-ins, and what all replicas share."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from tests.simulation.scenario.call_endings import Classify
from tests.simulation.scenario.plan import Plan
from tests.simulation.world.broker import Broker
from tests.simulation.world.claims import ClaimStore, ReplicaClaims
from tests.simulation.world.dcs import SimulatedDcs
from tests.simulation.world.dcs_client import CheckingObserver, DcsClient
from tests.simulation.world.event_loop import Timers
from tests.simulation.world.locks import ReplicaLocks
from tests.simulation.world.publisher import Publisher
from worker.pipeline.ports import ConsumerControl


@dataclass(frozen=True, slots=True)
class ReplicaPorts:
    """The stand-ins that one replica's flow works with."""

    dcs: DcsClient
    publisher: Publisher
    observer: CheckingObserver
    claims: ReplicaClaims | None
    locks: ReplicaLocks
    now: Callable[[], float]
    clock: Callable[[], float]
    """As the event loop counts."""
    random_unit: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]]
    intake: ConsumerControl
    steer: Callable[[int, str], None]


class ReplicaDispatcher(Protocol):
    """One replica's flow."""

    @property
    def in_flight(self) -> int:
        """Deliveries that are being worked on."""
        ...

    def deliver(self, delivery: Any) -> None:
        """Begin to work on a delivery."""
        ...

    async def drain(self, seconds: float) -> int:
        """Stop, and let what is in flight settle for so long."""
        ...


Assemble = Callable[[ReplicaPorts, Plan], ReplicaDispatcher]
"""Builds one replica's flow, the code under proof."""


@dataclass(slots=True)
class SharedWorld:
    """What all replicas share."""

    timers: Timers
    broker: Broker
    dcs: SimulatedDcs
    store: ClaimStore
    plan: Plan
    rng: Random
    assemble: Assemble
    classify: Classify
    pass_point: Callable[[Any, str], str | None]
    """A point is passed; the fault of the very call that struck."""
    log: Callable[[str, str, tuple[object, ...]], None]
    report_violation: Callable[[str, str], None]

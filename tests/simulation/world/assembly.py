"""One replica's flow as production builds it, over the stand-ins of a simulation."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from tests.simulation.scenario.call_endings import Classify
from tests.simulation.scenario.plan import CREATE_DEADLINE_SECONDS, REGION, Plan
from tests.simulation.world.broker import Broker
from tests.simulation.world.broker_client import Publisher, ReplicaLocks
from tests.simulation.world.claims import ClaimStore, ReplicaClaims
from tests.simulation.world.dcs import SimulatedDcs
from tests.simulation.world.dcs_client import CheckingObserver, DcsClient
from tests.simulation.world.event_loop import Timers
from worker.bootstrap.build import QUIET_SECONDS
from worker.bootstrap.dispatcher import Ports, build_dispatcher
from worker.pipeline.claims_or_locks import ClaimsOrLocks
from worker.pipeline.deduplicator import Deduplicator
from worker.pipeline.dispatcher import Dispatcher
from worker.pipeline.pipeline import RequestParser
from worker.pipeline.ports import ConsumerControl
from worker.pipeline.throttle import Throttle
from worker.policy.retry_policy import RetryPolicy, ThrottleSettings


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


def assemble(ports: ReplicaPorts, plan: Plan, rules: RetryPolicy | None = None) -> Dispatcher:
    """The flow of one replica, as `run` builds it."""
    return build_dispatcher(
        pipeline_ports(ports, plan),
        rules or plan.rules,
        RequestParser(65536, {REGION}, REGION, plan.marker),
        Deduplicator(),
    )


def pipeline_ports(ports: ReplicaPorts, plan: Plan) -> Ports:
    """The stand-ins as the flow takes them: with locks where there are claims, as in a running worker."""
    claims = ports.claims and ClaimsOrLocks(
        ports.claims, ports.locks, quiet=CREATE_DEADLINE_SECONDS + QUIET_SECONDS, clock=ports.clock
    )
    locks = None if ports.claims else ports.locks
    settings = ThrottleSettings((REGION,), plan.prefetch, CREATE_DEADLINE_SECONDS, plan.delays)
    throttle = Throttle(
        settings, ports.dcs.probe, ports.observer, ports.steer, clock=ports.clock, random_unit=ports.random_unit
    )
    return Ports(
        *(ports.dcs, ports.publisher, ports.observer, throttle, ports.intake, claims, locks),
        *(ports.now, ports.random_unit, ports.sleep),
    )

"""Assembly of a replica: its simulated ports, and its dispatcher, built as in production."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from tests.simulation.scenario.call_endings import Classify
from tests.simulation.scenario.plan import CREATE_DEADLINE_SECONDS, REGION, Plan
from tests.simulation.world.broker import Broker
from tests.simulation.world.broker_client import Delivery, Publisher, ReplicaLocks
from tests.simulation.world.claims import ClaimStore, ReplicaClaims
from tests.simulation.world.dcs import SimulatedDcs
from tests.simulation.world.dcs_client import CheckingObserver, DcsClient
from tests.simulation.world.event_loop import Timers
from tests.simulation.world.task_states import TaskStates
from worker.bootstrap.assembly import Ports, build_dispatcher, build_follow_up
from worker.pipeline.deduplicator import Deduplicator
from worker.pipeline.dispatcher import Dispatcher
from worker.pipeline.follow_up import FollowUp
from worker.pipeline.pipeline import DeliveryPipeline
from worker.pipeline.ports import ConsumerControl
from worker.pipeline.throttle import Throttle
from worker.policy.follow_up import FollowUpSettings
from worker.policy.migration_request import RequestParser
from worker.policy.retry_policy import RetryPolicy, ThrottleSettings


@dataclass(frozen=True, slots=True)
class ReplicaPorts:
    """Simulated ports of one replica."""

    dcs: DcsClient
    publisher: Publisher
    observer: CheckingObserver
    claims: ReplicaClaims | None
    locks: ReplicaLocks
    now: Callable[[], float]
    clock: Callable[[], float]
    """Monotonic clock: the time of the event loop."""
    random_unit: Callable[[], float]
    sleep: Callable[[float], Awaitable[object]]
    intake: ConsumerControl
    set_consumption: Callable[[int, str], None]
    task_states: TaskStates


class ReplicaDispatcher(Protocol):
    """Dispatcher of one replica, as far as the simulation uses it."""

    @property
    def in_flight(self) -> int:
        """Number of deliveries in flight."""
        ...

    def deliver(self, delivery: Any) -> None:
        """Start to process a delivery."""
        ...

    async def drain(self, seconds: float) -> int:
        """Stop, and wait for deliveries in flight. Returns how many are left."""
        ...


Assemble = Callable[[ReplicaPorts, Plan], ReplicaDispatcher]
"""Builds the dispatcher of one replica, the code under test."""


@dataclass(slots=True)
class SharedWorld:
    """World that all replicas share."""

    timers: Timers
    broker: Broker
    dcs: SimulatedDcs
    claim_store: ClaimStore
    plan: Plan
    rng: Random
    assemble: Assemble
    classify: Classify
    pass_point: Callable[[Any, str], str | None]
    """Passes a fault point. Returns the fault of this call."""
    log: Callable[[str, str, tuple[object, ...]], None]
    report_violation: Callable[[str, str], None]


class Dispatchers:
    """Dispatchers of one replica: of requests, and of watches if created tasks are followed up."""

    def __init__(self, requests: Dispatcher[DeliveryPipeline], watches: Dispatcher[FollowUp] | None) -> None:
        self.requests, self.watches = requests, watches

    @property
    def in_flight(self) -> int:
        """Number of deliveries in flight."""
        return self.requests.in_flight + (self.watches.in_flight if self.watches else 0)

    def deliver(self, delivery: Delivery) -> None:
        """Start to process a delivery."""
        dispatcher = self.requests if delivery.record.message.checks is None else self.watches
        assert dispatcher is not None
        dispatcher.deliver(delivery)

    async def drain(self, seconds: float) -> int:
        """Stop, and wait for deliveries in flight. Returns how many are left."""
        both = (self.requests, self.watches) if self.watches else (self.requests,)
        return sum(await asyncio.gather(*(dispatcher.drain(seconds) for dispatcher in both)))


def assemble(ports: ReplicaPorts, plan: Plan, policy: RetryPolicy | None = None) -> Dispatchers:
    """Dispatchers of one replica, built as in production."""
    common, with_follow_up = pipeline_ports(ports, plan), plan.follow_up_timeout is not None
    parser = RequestParser(65536, {REGION}, REGION, plan.marker)
    requests = build_dispatcher(common, policy or plan.policy, parser, Deduplicator(), with_follow_up=with_follow_up)
    if plan.follow_up_timeout is None:
        return Dispatchers(requests, None)
    settings = FollowUpSettings((REGION,), plan.follow_up_timeout, plan.listing_delay, CREATE_DEADLINE_SECONDS)
    return Dispatchers(requests, build_follow_up(common, ports.task_states, settings))


def pipeline_ports(ports: ReplicaPorts, plan: Plan) -> Ports:
    """Ports of the pipeline, as in a running worker."""
    settings = ThrottleSettings((REGION,), plan.prefetch, CREATE_DEADLINE_SECONDS, plan.delays)
    throttle = Throttle(
        settings,
        ports.dcs.probe,
        ports.observer,
        ports.set_consumption,
        clock=ports.clock,
        random_unit=ports.random_unit,
    )
    return Ports(
        *(ports.dcs, ports.publisher, ports.observer, throttle, ports.intake, ports.claims, ports.locks),
        *(ports.now, ports.random_unit, ports.sleep),
    )

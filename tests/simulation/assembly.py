"""One replica's flow as production builds it, over the stand-ins of a simulation."""

from tests.simulation.scenario.plan import Plan
from tests.simulation.scenario.request_bodies import REGION
from tests.simulation.world.dcs import CREATE_DEADLINE_SECONDS
from tests.simulation.world.shared import ReplicaPorts
from worker.bootstrap.build import QUIET_SECONDS
from worker.bootstrap.dispatcher import Ports, build_dispatcher
from worker.pipeline.claims_or_locks import ClaimsOrLocks
from worker.pipeline.deduplicator import Deduplicator
from worker.pipeline.dispatcher import Dispatcher
from worker.pipeline.pipeline import RequestParser
from worker.pipeline.throttle import Throttle
from worker.policy.retry_policy import RetryPolicy, ThrottleSettings


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

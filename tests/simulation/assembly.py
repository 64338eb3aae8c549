"""One replica's flow as production builds it, over the stand-ins of a simulation."""

from tests.simulation.scenario.plan import Plan
from tests.simulation.scenario.request_bodies import REGION
from tests.simulation.world.dcs import DEADLINE
from tests.simulation.world.shared import Cast
from worker.bootstrap.build import QUIET_SECONDS
from worker.bootstrap.dispatcher import Ports, build_dispatcher
from worker.pipeline.claims_or_locks import ClaimsOrLocks
from worker.pipeline.deduplicator import Deduplicator
from worker.pipeline.dispatcher import Dispatcher
from worker.pipeline.pipeline import RequestParser
from worker.pipeline.throttle import Throttle
from worker.policy.retry_policy import RetryPolicy, ThrottleSettings


def assemble(cast: Cast, plan: Plan, rules: RetryPolicy | None = None) -> Dispatcher:
    """The flow of one replica, as `run` builds it."""
    return build_dispatcher(
        ports(cast, plan), rules or plan.rules, RequestParser(65536, {REGION}, REGION, plan.marker), Deduplicator()
    )


def ports(cast: Cast, plan: Plan) -> Ports:
    """The stand-ins as the flow takes them: with locks where there are claims, as in a running worker."""
    claims = cast.claims and ClaimsOrLocks(cast.claims, cast.locks, quiet=DEADLINE + QUIET_SECONDS, clock=cast.clock)
    locks = None if cast.claims else cast.locks
    settings = ThrottleSettings((REGION,), plan.prefetch, DEADLINE, plan.delays)
    throttle = Throttle(
        settings, cast.dcs.probe, cast.observer, cast.steer, clock=cast.clock, random_unit=cast.random_unit
    )
    return Ports(
        *(cast.dcs, cast.publisher, cast.observer, throttle, cast.intake, claims, locks),
        *(cast.now, cast.random_unit, cast.sleep),
    )

"""One replica's flow as production builds it, over the stand-ins of a simulation."""

from tests.simulation import DEADLINE, REGION, Cast, Plan
from worker.bootstrap.build import QUIET
from worker.bootstrap.flows import Ports, flow
from worker.flow.fallback import ClaimsOrLocks
from worker.flow.process import Reading
from worker.flow.service import Service


def assemble(cast: Cast, plan: Plan) -> Service:
    """The flow of one replica, as `run` builds it."""
    return flow(ports(cast), plan.rules, Reading(65536, {REGION}, REGION, plan.marker))


def ports(cast: Cast) -> Ports:
    """The stand-ins as the flow takes them: with locks where there are claims, as in a running worker."""
    claims = cast.claims and ClaimsOrLocks(cast.claims, cast.locks, quiet=DEADLINE + QUIET, clock=cast.clock)
    locks = None if cast.claims else cast.locks
    return Ports(cast.dcs, cast.publisher, cast.observer, claims, locks, cast.now, cast.chance, cast.sleep)

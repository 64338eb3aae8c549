"""Laws switched off on purpose, one at a time: the proof must notice each."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

from tests.simulation import REGION, Cast, Plan, mutants
from tests.simulation.assembly import ports
from worker.bootstrap.flows import Parts, flow
from worker.pipeline.dispatcher import Dispatcher
from worker.pipeline.pipeline import RequestParser
from worker.policy import error_table
from worker.policy.call_result import Condition, ErrorKind, Evidence
from worker.policy.error_table import Row
from worker.policy.retry_policy import RetryPolicy


def refusing(status: int, code: str | None, condition: Condition | None) -> Row:
    """A table in which a server's error is a refusal."""
    row = error_table.row(status, code, condition)
    return Row(Evidence.REFUSED, ErrorKind.RETRY, row.scope) if status >= 500 else row


def unclaimed(cast: Cast) -> Cast:
    """Claims ignored."""
    return replace(cast, claims=None)


def silent(cast: Cast) -> Cast:
    """Endings not shared."""
    return replace(cast, claims=mutants.Silent(cast.claims)) if cast.claims is not None else cast  # type: ignore[arg-type]


@dataclass(frozen=True)
class Mutation:
    """One law switched off."""

    name: str
    parts: Parts = field(default_factory=Parts)
    rules: type[RetryPolicy] = RetryPolicy
    classify: Callable[[int, str | None, Condition | None], Row] = error_table.row
    cast: Callable[[Cast], Cast] = lambda cast: cast

    def assemble(self, cast: Cast, plan: Plan) -> Dispatcher:
        """One replica's flow without that law."""
        rules = self.rules(**{each.name: getattr(plan.rules, each.name) for each in fields(plan.rules)})
        return flow(ports(self.cast(cast)), rules, RequestParser(65536, {REGION}, REGION, plan.marker), self.parts)


MUTATIONS = (
    Mutation("acknowledges before the confirm", Parts(settler=mutants.Credulous)),
    Mutation("acknowledges a postponed request before its copy", Parts(settler=mutants.Hasty)),
    Mutation("drops what it should hand back", Parts(settler=mutants.Dropping)),
    Mutation("forgets x-last-sent-at on a copy", Parts(settler=mutants.Forgetful)),
    Mutation("invents event ids", Parts(settler=mutants.Inventive)),
    Mutation("does not look after an ambiguous ending", Parts(handler=mutants.Blind)),
    Mutation("settles from the beginning of a call", Parts(handler=mutants.Impatient)),
    Mutation("adopts the first of several", Parts(handler=mutants.Guessing)),
    Mutation("takes a redelivery for a first delivery", Parts(process=mutants.Unmarked)),
    Mutation("creates on stale ground", Parts(process=mutants.Sleepwalking)),
    Mutation("lets copies fly separately", Parts(copies=mutants.Scattered)),
    Mutation("remembers no ending", Parts(copies=mutants.Amnesiac)),
    Mutation("owes no settle time", rules=mutants.Restless),
    Mutation("believes a copy that says never sent", rules=mutants.Trusting),
    Mutation("knows no poison", rules=mutants.Tireless),
    Mutation("condemns at the first interruption", rules=mutants.Condemning),
    Mutation("gives up with places left", rules=mutants.Spendthrift),
    Mutation("gives up what is ambiguous", Parts(handler=mutants.Resigned)),
    Mutation("counts 5xx as refused", classify=refusing),
    Mutation("ignores claims", cast=unclaimed),
    Mutation("shares no endings", cast=silent),
)

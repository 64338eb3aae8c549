"""Laws switched off on purpose, one at a time: the proof must notice each."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from tests.simulation.assembly import assemble
from tests.simulation.mutations import mutants
from tests.simulation.scenario.plan import Plan
from tests.simulation.scenario.request_bodies import REGION
from tests.simulation.world.shared import Cast
from worker.pipeline.dispatcher import Dispatcher
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


Patch = Callable[[Dispatcher], None]


def becomes(path: str, kind: type) -> Patch:
    """The part of a built flow that `path` leads to behaves as `kind`, a subclass of its own class without state."""

    def patch(service: Dispatcher) -> None:
        part: object = service
        for name in path.split("."):
            part = part[name] if isinstance(part, dict) else getattr(part, name)
        assert issubclass(kind, type(part))
        part.__class__ = kind

    return patch


HANDLER, SETTLER, PROCESS, COPIES = "_pipeline._executor", "_pipeline._settler", "_pipeline", "_pipeline._deduplicator"
THROTTLE, IN_REGION = "_throttle", f"_throttle.regions.{REGION}"


@dataclass(frozen=True)
class Mutation:
    """One law switched off, in a flow that was built as in production."""

    name: str
    patch: Patch = lambda _: None
    rules: type[RetryPolicy] = RetryPolicy
    classify: Callable[[int, str | None, Condition | None], Row] = error_table.row
    cast: Callable[[Cast], Cast] = lambda cast: cast

    def assemble(self, cast: Cast, plan: Plan) -> Dispatcher:
        """One replica's flow without that law."""
        rules = self.rules(**{each.name: getattr(plan.rules, each.name) for each in fields(plan.rules)})
        service = assemble(self.cast(cast), plan, rules)
        self.patch(service)
        return service


MUTATIONS = (
    Mutation("acknowledges before the confirm", becomes(SETTLER, mutants.Credulous)),
    Mutation("acknowledges a postponed request before its copy", becomes(SETTLER, mutants.Hasty)),
    Mutation("drops what it should hand back", becomes(SETTLER, mutants.Dropping)),
    Mutation("forgets x-last-sent-at on a copy", becomes(SETTLER, mutants.Forgetful)),
    Mutation("invents event ids", becomes(SETTLER, mutants.Inventive)),
    Mutation("does not look after an ambiguous ending", becomes(HANDLER, mutants.Blind)),
    Mutation("settles from the beginning of a call", becomes(HANDLER, mutants.Impatient)),
    Mutation("adopts the first of several", becomes(HANDLER, mutants.Guessing)),
    Mutation("takes a redelivery for a first delivery", becomes(PROCESS, mutants.Unmarked)),
    Mutation("creates on stale ground", becomes(PROCESS, mutants.Sleepwalking)),
    Mutation("lets copies fly separately", becomes(COPIES, mutants.Scattered)),
    Mutation("remembers no ending", becomes(COPIES, mutants.Amnesiac)),
    Mutation("owes no settle time", rules=mutants.Restless),
    Mutation("believes a copy that says never sent", rules=mutants.Trusting),
    Mutation("knows no poison", rules=mutants.Tireless),
    Mutation("condemns at the first interruption", rules=mutants.Condemning),
    Mutation("gives up with places left", rules=mutants.Spendthrift),
    Mutation("gives up what is ambiguous", becomes(HANDLER, mutants.Resigned)),
    Mutation("counts 5xx as refused", classify=refusing),
    Mutation("ignores claims", cast=unclaimed),
    Mutation("shares no endings", cast=silent),
    Mutation("never closes the breaker", becomes(f"{IN_REGION}.breaker", mutants.NeverClosing)),
    Mutation("never opens the breaker", becomes(f"{IN_REGION}.breaker", mutants.NeverOpening)),
    Mutation("does not take a permit back", becomes(IN_REGION, mutants.Hoarding)),
    Mutation("holds every project for one", becomes(IN_REGION, mutants.Generalising)),
    Mutation("does not take in again what it took in before", becomes(THROTTLE, mutants.Shrinking)),
    Mutation("believes an old look", becomes(HANDLER, mutants.Believing)),
    Mutation("never probes the credentials", becomes(f"{THROTTLE}.probes", mutants.Unprobing)),
    Mutation("takes a refused key for the request's fault", becomes(IN_REGION, mutants.Accusing)),
)

"""Laws switched off on purpose, one at a time: the proof must notice each."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from tests.simulation.mutations import mutants
from tests.simulation.scenario.plan import REGION, Plan
from tests.simulation.world.assembly import ReplicaPorts, assemble
from worker.pipeline.dispatcher import Dispatcher
from worker.policy import error_table
from worker.policy.call_result import Condition, ErrorKind, Evidence
from worker.policy.error_table import Row
from worker.policy.retry_policy import RetryPolicy


def classify_server_error_as_refused(status: int, code: str | None, condition: Condition | None) -> Row:
    """A table in which a server's error is a refusal."""
    row = error_table.row(status, code, condition)
    return Row(Evidence.REFUSED, ErrorKind.RETRY, row.scope) if status >= 500 else row


def without_claims(ports: ReplicaPorts) -> ReplicaPorts:
    """Claims ignored."""
    return replace(ports, claims=None)


def without_shared_outcomes(ports: ReplicaPorts) -> ReplicaPorts:
    """Endings not shared."""
    return replace(ports, claims=mutants.UnsharedOutcomes(ports.claims)) if ports.claims is not None else ports  # type: ignore[arg-type]


Patch = Callable[[Dispatcher], None]


def replace_class(path: str, kind: type) -> Patch:
    """The part of a built flow that `path` leads to behaves as `kind`, a subclass of its own class without state."""

    def patch(service: Dispatcher) -> None:
        part: object = service
        for name in path.split("."):
            part = part[name] if isinstance(part, dict) else getattr(part, name)
        assert issubclass(kind, type(part))
        part.__class__ = kind

    return patch


EXECUTOR, SETTLER, PIPELINE, DEDUPLICATOR = (
    "_pipeline._executor",
    "_pipeline._settler",
    "_pipeline",
    "_pipeline._deduplicator",
)
THROTTLE, IN_REGION = "_throttle", f"_throttle.regions.{REGION}"


@dataclass(frozen=True)
class Mutation:
    """One law switched off, in a flow that was built as in production."""

    name: str
    patch: Patch = lambda _: None
    rules: type[RetryPolicy] = RetryPolicy
    classify: Callable[[int, str | None, Condition | None], Row] = error_table.row
    change_ports: Callable[[ReplicaPorts], ReplicaPorts] = lambda ports: ports

    def assemble(self, ports: ReplicaPorts, plan: Plan) -> Dispatcher:
        """One replica's flow without that law."""
        rules = self.rules(**{each.name: getattr(plan.rules, each.name) for each in fields(plan.rules)})
        service = assemble(self.change_ports(ports), plan, rules)
        self.patch(service)
        return service


MUTATIONS = (
    Mutation("acknowledges before the confirm", replace_class(SETTLER, mutants.AckBeforeConfirm)),
    Mutation("acknowledges a postponed request before its copy", replace_class(SETTLER, mutants.AckBeforeCopy)),
    Mutation("drops what it should hand back", replace_class(SETTLER, mutants.DropInsteadOfRequeue)),
    Mutation("forgets x-last-sent-at on a copy", replace_class(SETTLER, mutants.LoseLastSentAt)),
    Mutation("invents event ids", replace_class(SETTLER, mutants.NewEventIdEachTime)),
    Mutation("does not look after an ambiguous ending", replace_class(EXECUTOR, mutants.SkipLookupAfterAmbiguous)),
    Mutation("settles from the beginning of a call", replace_class(EXECUTOR, mutants.ListingDelayFromCallStart)),
    Mutation("adopts the first of several", replace_class(EXECUTOR, mutants.AdoptFirstOfSeveral)),
    Mutation("takes a redelivery for a first delivery", replace_class(PIPELINE, mutants.TreatRedeliveryAsFirst)),
    Mutation("creates on stale ground", replace_class(PIPELINE, mutants.SkipStaleCheck)),
    Mutation("lets copies fly separately", replace_class(DEDUPLICATOR, mutants.NoSingleFlight)),
    Mutation("remembers no ending", replace_class(DEDUPLICATOR, mutants.ForgetOutcomes)),
    Mutation("owes no settle time", rules=mutants.NoListingDelay),
    Mutation("believes a copy that says never sent", rules=mutants.TrustNeverSentHeader),
    Mutation("knows no poison", rules=mutants.NoPoisonLimit),
    Mutation("condemns at the first interruption", rules=mutants.PoisonAtFirstInterruption),
    Mutation("gives up with places left", rules=mutants.NoRetriesLeft),
    Mutation("gives up what is ambiguous", replace_class(EXECUTOR, mutants.FailAmbiguous)),
    Mutation("counts 5xx as refused", classify=classify_server_error_as_refused),
    Mutation("ignores claims", change_ports=without_claims),
    Mutation("shares no endings", change_ports=without_shared_outcomes),
    Mutation("never closes the breaker", replace_class(f"{IN_REGION}.breaker", mutants.NeverCloseBreaker)),
    Mutation("never opens the breaker", replace_class(f"{IN_REGION}.breaker", mutants.NeverOpenBreaker)),
    Mutation("does not take a permit back", replace_class(IN_REGION, mutants.LeakPermits)),
    Mutation("holds every project for one", replace_class(IN_REGION, mutants.HoldAllProjects)),
    Mutation("does not take in again what it took in before", replace_class(THROTTLE, mutants.NeverResumeConsumption)),
    Mutation("believes an old look", replace_class(EXECUTOR, mutants.TrustOldLookup)),
    Mutation("never probes the credentials", replace_class(f"{THROTTLE}.probes", mutants.NoCredentialsProbe)),
    Mutation(
        "takes a refused key for the request's fault", replace_class(IN_REGION, mutants.BlameRequestForCredentials)
    ),
)

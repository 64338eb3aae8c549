"""Catalogue of mutations: the worker with one law switched off, which the simulation must detect."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from tests.simulation.mutations import decisions, follow_up, settlement, throttle
from tests.simulation.scenario.plan import REGION, Plan
from tests.simulation.world.assembly import Dispatchers, ReplicaPorts, assemble
from worker.policy import error_table
from worker.policy.call_result import Condition, ErrorKind, Evidence
from worker.policy.error_table import Row
from worker.policy.retry_policy import RetryPolicy


def classify_server_error_as_refused(status: int, code: str | None, condition: Condition | None) -> Row:
    """Error table that takes a server error for a refusal."""
    row = error_table.row(status, code, condition)
    return Row(Evidence.REFUSED, ErrorKind.RETRY, row.scope) if status >= 500 else row


def without_claims(ports: ReplicaPorts) -> ReplicaPorts:
    """Ports of a replica that ignores claims."""
    return replace(ports, claims=None)


def without_shared_outcomes(ports: ReplicaPorts) -> ReplicaPorts:
    """Ports of a replica that stores no outcome in the claims."""
    return replace(ports, claims=settlement.UnsharedOutcomes(ports.claims)) if ports.claims is not None else ports  # type: ignore[arg-type]


def with_cut_tasks(ports: ReplicaPorts) -> ReplicaPorts:
    """Ports of a replica that takes each task whose marker was cut off for the request's."""
    ports.dcs.__class__ = decisions.AdoptCutTasks
    return ports


Patch = Callable[[Dispatchers], None]


def replace_class(path: str, kind: type) -> Patch:
    """Patch that gives the part at `path` the class `kind`, a stateless subclass of its class."""

    def patch(dispatchers: Dispatchers) -> None:
        part: object = dispatchers
        for name in path.split("."):
            part = part[name] if isinstance(part, dict) else getattr(part, name)
            if part is None:  # no follow-up in this run
                return
        assert issubclass(kind, type(part))
        part.__class__ = kind

    return patch


def ignore_pause(dispatchers: Dispatchers) -> None:
    """Patch that continues as without claims while Redis is away, whatever the plan says."""
    pipeline = dispatchers.requests._pipeline
    for part in (pipeline, pipeline._executor):
        part._retry_policy = replace(part._retry_policy, claims_away="look")


EXECUTOR, SETTLER, PIPELINE, DEDUPLICATOR = (
    "requests._pipeline._executor",
    "requests._pipeline._settler",
    "requests._pipeline",
    "requests._pipeline._deduplicator",
)
THROTTLE, IN_REGION = "requests._throttle", f"requests._throttle.regions.{REGION}"
FOLLOW_UP = "watches._pipeline"


@dataclass(frozen=True)
class Mutation:
    """A dispatcher that is built as in production, with one law switched off."""

    name: str
    patch: Patch = lambda _: None
    policy: type[RetryPolicy] = RetryPolicy
    classify: Callable[[int, str | None, Condition | None], Row] = error_table.row
    change_ports: Callable[[ReplicaPorts], ReplicaPorts] = lambda ports: ports
    seed: int = 0
    """Seed of a random run that breaks a law; another one is searched for when it no longer does."""

    def assemble(self, ports: ReplicaPorts, plan: Plan) -> Dispatchers:
        """Dispatchers of one replica without that law."""
        policy = self.policy(**{each.name: getattr(plan.policy, each.name) for each in fields(plan.policy)})
        dispatchers = assemble(self.change_ports(ports), plan, policy)
        self.patch(dispatchers)
        return dispatchers


MUTATIONS = (
    Mutation("acknowledges before the confirm", replace_class(SETTLER, settlement.AckBeforeConfirm), seed=2),
    Mutation(
        "acknowledges a postponed request before its copy is confirmed",
        replace_class(SETTLER, settlement.AckBeforeCopy),
        seed=1,
    ),
    Mutation(
        "drops requests instead of requeueing them", replace_class(SETTLER, settlement.DropInsteadOfRequeue), seed=19
    ),
    Mutation("omits x-last-sent-at on copies", replace_class(SETTLER, settlement.LoseLastSentAt), seed=689),
    Mutation("forgets a 409 at a hand-back or a wait", replace_class(SETTLER, settlement.ForgetConflict), seed=1014),
    Mutation("gives each event a new id", replace_class(SETTLER, settlement.NewEventIdEachTime), seed=1),
    Mutation("gives answers from memory a new id", replace_class(SETTLER, settlement.NewEventIdForRepeats), seed=3),
    Mutation(
        "gives all failures of a request one id", replace_class(SETTLER, settlement.OneIdForAllFailures), seed=161
    ),
    Mutation("parks copies of a parked request again", replace_class(SETTLER, settlement.ParkCopiesAgain), seed=10),
    Mutation(
        "creates for a message whose failure is published",
        replace_class(DEDUPLICATOR, decisions.ForgetFailures),
        seed=639,
    ),
    Mutation(
        "creates for a message whose failure only Redis forgot",
        replace_class(PIPELINE, settlement.ForgetFailuresUnknownToRedis),
        seed=2978,
    ),
    Mutation(
        "skips the look-up after an ambiguous create",
        replace_class(EXECUTOR, decisions.SkipLookupAfterAmbiguous),
        seed=3,
    ),
    Mutation(
        "counts the listing delay from the start of a call",
        replace_class(EXECUTOR, decisions.ListingDelayFromCallStart),
        seed=84,
    ),
    Mutation("adopts the first of several tasks", replace_class(EXECUTOR, decisions.AdoptFirstOfSeveral), seed=101),
    Mutation("adopts a task of an equal request whose marker was cut off", change_ports=with_cut_tasks, seed=265),
    Mutation(
        "takes a redelivery for a first delivery", replace_class(PIPELINE, settlement.TreatRedeliveryAsFirst), seed=5
    ),
    Mutation("creates for a lost delivery", replace_class(PIPELINE, settlement.SkipStaleCheck), seed=5),
    Mutation(
        "answers a copy that may have a task as expired",
        replace_class(PIPELINE, settlement.AnswerExpiredCopies),
        seed=2840,
    ),
    Mutation("processes copies at the same time", replace_class(DEDUPLICATOR, decisions.NoSingleFlight), seed=40),
    Mutation("creates without a claim while Redis is away", ignore_pause, seed=491),
    Mutation("skips the look-up of first deliveries", policy=decisions.CreateFirstDeliveryWithoutLookup, seed=2),
    Mutation("remembers no outcome", replace_class(DEDUPLICATOR, decisions.ForgetOutcomes), seed=12),
    Mutation("has no listing delay", policy=decisions.NoListingDelay, seed=2),
    Mutation("trusts a copy that says never sent", policy=decisions.TrustNeverSentHeader, seed=2),
    Mutation("has no poison limit", policy=decisions.NoPoisonLimit, seed=42),
    Mutation("takes the first interruption for poison", policy=decisions.PoisonAtFirstInterruption, seed=4),
    Mutation("fails a request with retry levels left", policy=decisions.NoRetriesLeft, seed=13),
    Mutation("fails a request after an ambiguous error", replace_class(EXECUTOR, decisions.FailAmbiguous), seed=2),
    Mutation("takes 5xx for a refusal", classify=classify_server_error_as_refused, seed=7),
    Mutation("ignores claims", change_ports=without_claims, seed=4),
    Mutation("stores no outcome in the claims", change_ports=without_shared_outcomes, seed=10),
    Mutation("never closes the breaker", replace_class(f"{IN_REGION}.breaker", throttle.NeverCloseBreaker), seed=184),
    Mutation("never opens the breaker", replace_class(f"{IN_REGION}.breaker", throttle.NeverOpenBreaker), seed=257),
    Mutation("leaks permits", replace_class(IN_REGION, throttle.LeakPermits), seed=7),
    Mutation("holds all projects when one is refused", replace_class(IN_REGION, throttle.HoldAllProjects), seed=3448),
    Mutation("never resumes consumption", replace_class(THROTTLE, throttle.NeverResumeConsumption), seed=184),
    Mutation("relies on an old look-up", replace_class(EXECUTOR, decisions.TrustOldLookup), seed=52),
    Mutation("never probes the credentials", replace_class(f"{THROTTLE}.probes", throttle.NoCredentialsProbe), seed=10),
    Mutation("acknowledges a request before its watch", replace_class(SETTLER, follow_up.AckBeforeWatch), seed=2),
    Mutation("starts no watch after a redelivery", replace_class(SETTLER, follow_up.NoWatchAfterRedelivery), seed=2457),
    Mutation("starts a watch with every answer", replace_class(SETTLER, follow_up.WatchEveryAnswer), seed=15),
    Mutation("drops a watch after its first look", replace_class(FOLLOW_UP, follow_up.DropUnfinishedWatch), seed=23),
    Mutation(
        "takes a task that is being created for ready",
        replace_class(FOLLOW_UP, follow_up.TakeCreatingForReady),
        seed=23,
    ),
    Mutation("gives each last event a new id", replace_class(FOLLOW_UP, follow_up.NewEventIdEachTime), seed=110),
    Mutation(
        "blames a request for refused credentials",
        replace_class(IN_REGION, throttle.BlameRequestForCredentials),
        seed=109,
    ),
)

"""Tests of the simulation: coverage, reproducible runs, and no broken law in a short exploration."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.simulation.explore import explore, replay
from tests.simulation.mutations.catalogue import MUTATIONS
from tests.simulation.scenario.call_endings import CALL_ENDINGS, ENDINGS_OF_EVERY_REQUEST
from tests.simulation.scenario.fault_points import CLAIMS_FAULTS_ANYWHERE, FAULTS_ANYWHERE, FAULTS_BY_POINT
from tests.simulation.scenario.plan import CREATE_DEADLINE_SECONDS, Plan, PlannedRequest
from tests.simulation.scenario.random_plans import sampled
from tests.simulation.test_mutations import RUNS
from tests.simulation.world import claims
from tests.simulation.world.assembly import assemble
from worker.bootstrap.components import LEASE_PER_CALL
from worker.claims import redis_claims

WITHOUT_LOOKUP = next(
    mutation for mutation in MUTATIONS if mutation.name == "skips the look-up after an ambiguous create"
)


def test_short_exploration_with_every_fault_breaks_no_law() -> None:
    """The worker keeps every law in a short exploration, in which every fault happens."""
    report = explore(assemble, runs=RUNS)
    assert report.failures == [], "\n".join(report.lines())
    assert report.is_good
    assert report.injected.keys() >= {
        *FAULTS_ANYWHERE,
        *CLAIMS_FAULTS_ANYWHERE,
        *(fault for faults in FAULTS_BY_POINT.values() for fault in faults),
    }
    assert report.runs == report.enumerated + report.sampled == RUNS
    assert f"{RUNS:,} runs" in "\n".join(report.lines())
    guarantees = (Path(__file__).parents[2] / "docs" / "guarantees.md").read_text()
    for count, what in (
        (report.injected, "kinds of faults"),
        (report.passed, "fault points"),
        (CALL_ENDINGS, "endings"),
    ):
        assert f"**{len(count)} {what}" in guarantees


@pytest.mark.parametrize("ending", CALL_ENDINGS)
def test_every_call_ending_leads_to_final_event(ending: str) -> None:
    """A request whose first create calls end so is completed, with and without claims."""
    times = 1 if ending in ENDINGS_OF_EVERY_REQUEST else 3
    for has_claims in (False, True):
        run, _ = replay(Plan(requests=(PlannedRequest(call_endings=(ending,) * times),), claims=has_claims), assemble)
        assert run.violations == []
        assert [point for point in run.points if not point.startswith("unlock.")][-1] == "ack.after"


@pytest.mark.parametrize("seed", range(100, 130))
def test_same_seed_gives_same_timeline(seed: int) -> None:
    """A seed always gives the same plan, and a plan the same run."""
    assert sampled(seed) == sampled(seed)
    assert replay(sampled(seed), assemble)[1] == replay(sampled(seed), assemble)[1]


def test_plan_round_trips_through_text() -> None:
    """The text that a failure prints is read as the same plan."""
    plan = Plan(
        requests=(PlannedRequest(call_endings=("created-late-timeout",), copies=(3.0,)),),
        claims=True,
        faults={4: "crash"},
    )
    assert Plan.from_text(plan.to_text()) == plan
    assert json.loads(plan.to_text())["faults"] == {"4": "crash"}


def test_unknown_plan_field_is_named_in_error() -> None:
    """The error names a misspelt field."""
    with pytest.raises(ValueError, match="claim: Extra inputs"):
        Plan.from_text('{"claim": true}')


def test_failure_has_small_plan_that_replays() -> None:
    """A failure has a timeline, and a plan that fails alike with no more than it needs."""
    report = explore(WITHOUT_LOOKUP.assemble, runs=1, seed=WITHOUT_LOOKUP.seed)
    failure = report.failures[0]
    run, timeline = replay(Plan.from_text(failure.plan.to_text()), WITHOUT_LOOKUP.assemble)
    assert tuple(run.violations) == failure.violations
    assert timeline == failure.timeline
    assert len(failure.plan.requests) == 1
    assert any("!!!" in line for line in timeline)
    text = "\n".join(report.lines())
    assert f"python -m tests.simulation --plan '{failure.plan.to_text()}'" in text
    assert "No law was broken" not in text


def test_seed_selects_random_runs_only() -> None:
    """With a seed the runs are those of this and the following seeds; none is enumerated."""
    report = explore(assemble, runs=5, seed=40)
    assert (report.enumerated, report.sampled, report.first_seed) == (0, 5, 40)
    separate_results = [replay(sampled(seed), assemble)[0] for seed in range(40, 45)]
    assert report.points == sum(len(run.points) for run in separate_results)


_SLOW: dict[str, Any] = {"claims": True, "tries": 1, "only_faults": ("freeze", "freeze-long", "channel", "lookup-slow")}


@pytest.mark.parametrize(
    "plan",
    [
        Plan(
            requests=(PlannedRequest(call_endings=("full", "unsent")),),
            delays=(50.0,),
            repeats_at_end=True,
            seed=108,
            **_SLOW,
        ),
        Plan(requests=(PlannedRequest(call_endings=("created-late-reset",), copies=(24.028,)),), seed=3600, **_SLOW),
    ],
    ids=["resumed after the success of another replica", "look-up older than its answer"],
)
def test_former_violation_does_not_recur_with_freeze_at_any_point(plan: Plan) -> None:
    """Plans that once broke a law keep it, with a long freeze at any fault point and with slow look-ups."""
    result, _ = replay(plan, assemble)
    for point, label in enumerate(result.points):
        for fault in ("freeze-long", *(("lookup-slow",) if label == "lookup.after" else ())):
            run, timeline = replay(plan.model_copy(update={"faults": {point: fault}}), assemble)
            assert run.violations == [], "\n".join(timeline)


@pytest.mark.parametrize("fate", ["ready", "failed", "released", "deleted", "stuck"])
def test_created_task_is_followed_up_with_a_restart_at_any_point(fate: Literal["ready"]) -> None:
    """Each watch ends, with every fate of the task, at whichever point a process ends or its channel is lost."""
    plan = Plan(requests=(PlannedRequest(fate=fate),), claims=True, follow_up_timeout=100.0)
    result, _ = replay(plan, assemble)
    for point, label in enumerate(result.points):
        lost = ("confirm-lost",) if label == "watch.after" else ()
        for fault in ("crash", "drain", "channel", *lost):
            run, timeline = replay(plan.model_copy(update={"faults": {point: fault}}), assemble)
            assert run.violations == [], "\n".join(timeline)


class IdleDispatcher:
    """Dispatcher that ignores its deliveries."""

    in_flight = 0

    def deliver(self, delivery: Any) -> None:
        """Ignore the delivery."""

    async def drain(self, seconds: float) -> int:
        """Return at once."""
        return 0


def test_request_without_event_is_violation() -> None:
    """A run that ends with an unacknowledged request is reported as unfinished, and the request as lost."""
    run, _ = replay(Plan(), lambda *_: IdleDispatcher())
    assert run.violations == ["the run does not end: 1 requests left, busy: []", "lost: no final event"]


def test_simulated_claims_last_as_long_as_the_workers() -> None:
    """With the default deadline of a call; and a Redis that is younger than ten minutes proves nothing."""
    by_call = LEASE_PER_CALL * CREATE_DEADLINE_SECONDS
    assert {"look": redis_claims.LEASE_SECONDS, "pause": by_call} == claims.CLAIM_SECONDS
    assert redis_claims.MIN_MEMORY_AGE_SECONDS == claims.MIN_MEMORY_AGE_SECONDS == 600.0

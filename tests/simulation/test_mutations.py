"""Mutation test of the simulation: with any law switched off it finds a run that breaks a law."""

import pytest

from tests.simulation.explore import explore, replay
from tests.simulation.mutations.catalogue import MUTATIONS, Mutation
from tests.simulation.scenario.random_plans import sampled

RUNS = 8_000


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_simulation_detects_mutation(mutation: Mutation) -> None:
    """A mutated worker breaks a law in its known run, or else in a short exploration, which shows its timeline."""
    run, timeline = replay(sampled(mutation.seed), mutation.assemble, mutation.classify)
    if not run.violations:
        report = explore(mutation.assemble, runs=RUNS, classify=mutation.classify, until_broken=True)
        assert not report.is_good
        timeline = report.failures[0].timeline
    assert timeline

"""Mutation test of the simulation: with any law switched off it finds a run that breaks a law."""

import pytest

from tests.simulation.explore import explore
from tests.simulation.mutations.catalogue import MUTATIONS, Mutation

RUNS = 8_000


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_simulation_detects_mutation(mutation: Mutation) -> None:
    """A short exploration of a mutated worker finds a violation, and shows its timeline."""
    report = explore(mutation.assemble, runs=RUNS, classify=mutation.classify, until_broken=True)
    assert not report.is_good
    assert report.failures[0].timeline

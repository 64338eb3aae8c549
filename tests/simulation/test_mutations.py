"""The proof bites: with any one law switched off it finds a run that shows it."""

import pytest

from tests.simulation.explore import explore
from tests.simulation.mutations.catalogue import MUTATIONS, Mutation

RUNS = 4_000


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_law_switched_off_is_noticed(mutation: Mutation) -> None:
    """Within a short proof a run breaks a law when the worker breaks one."""
    report = explore(mutation.assemble, runs=RUNS, classify=mutation.classify, until_broken=True)
    assert not report.is_good
    assert report.failures[0].timeline

"""Memory of one replica."""

from dataclasses import replace

from tests.unit.claims.sample_migration import MIGRATION
from worker.pipeline.deduplicator import Deduplicator
from worker.policy.outcome import Completed


def test_the_last_4096_requests_are_remembered() -> None:
    """What is asked for again is kept longer."""
    completed = Completed(True, "created", "", "r", "2026-11-27T10:00:00.000Z", b"", False, MIGRATION.fingerprint, 0)
    requests = [replace(MIGRATION, request_id=f"r-{number}") for number in range(4098)]
    memory = Deduplicator()
    for migration in requests[:4096]:
        memory.remember(migration, completed)
    assert memory.completed(requests[0]) is completed
    for migration in requests[4096:]:
        memory.remember(migration, completed)
    known = [memory.completed(migration) is not None for migration in requests]
    assert (known[0], known[1:3], all(known[3:])) == (True, [False, False], True)

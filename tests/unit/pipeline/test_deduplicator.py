"""The deduplicator's memory."""

from dataclasses import replace

from schemas.envelope import Envelope
from tests.unit.claims.sample_migration import MIGRATION
from worker.pipeline import final_events
from worker.pipeline.deduplicator import Deduplicator
from worker.policy.call_result import TaskCreated


def test_the_last_4096_outcomes_are_remembered() -> None:
    """As the contract says of what a replica knows."""
    envelope = Envelope.read({}, redelivered=False, now=0.0)
    created = final_events.succeeded(MIGRATION, envelope, TaskCreated("i-1"), "created", 0.0)
    deduplicator = Deduplicator()
    requests = [replace(MIGRATION, request_id=f"r-{number}") for number in range(4097)]
    for request in requests:
        deduplicator.remember(request, created)
    assert [deduplicator.completed(request) is None for request in (requests[0], requests[1])] == [True, False]

"""`deploy/capacity.md`: its tables are those of the figures that were measured, and its arithmetic is right."""

import pytest

from tools.bench import sizing
from tools.bench.sizing import Assumed, Measured, size
from worker.claims.redis_claims import KEEP_MILLISECONDS

ROUND = Measured(
    rabbitmq="3.10.8",
    cpu_us=1_000,
    rss_mb=80,
    outcome_bytes=500,
    amqp_connections=2,
    redis_connections=1,
    claim_bytes=300,
    queue_in_per_second=4_000,
    queue_through_per_second=2_000,
)
DAILY = 86_400


def test_the_document_has_the_tables_of_what_was_measured() -> None:
    """Who measures again writes the document again."""
    text = sizing.DOCUMENT.read_text()
    assert sizing.written(text, sizing.read()) == text
    assert text.count("| 100,000,000 |") == 1


def test_an_example_by_hand() -> None:
    """A thousand a second on the mean, reckoned with pencil and paper."""
    found = size(1_000 * DAILY, ROUND, Assumed())
    assert (found.mean, found.peak, round(found.calls, 6)) == (1_000, 3_000, 6_300)
    assert found.quotas == 1_260
    assert found.in_flight == 6_300
    assert round(found.cores, 6) == 6.3
    assert found.queues == 3
    # 6,300 in flight are 99 prefetch windows, which three queues share: 33 for each.
    assert found.replicas == 99
    assert (found.amqp_connections, found.memory_mb) == (198, 99 * 80)
    assert found.redis_mb == 1_000 * DAILY * 7 * 500 / 1e6 + 2


def test_a_slow_worker_needs_replicas_for_its_cpu() -> None:
    """Where calls are short, CPU decides: half of a core is planned with."""
    found = size(1_000 * DAILY, ROUND, Assumed(calls=1.0, call_seconds=0.01, peak=1.0))
    assert found.in_flight == 10
    assert (found.queues, found.replicas) == (1, 2)
    assert size(8_000 * DAILY, ROUND, Assumed(calls=1.0, call_seconds=0.01, peak=1.0)).replicas == 16


@pytest.mark.parametrize("per_day", [1, *sizing.EXAMPLES])
def test_any_replica_may_die(per_day: int) -> None:
    """Each queue has two at least; more requests never need less of anything."""
    found, more = size(per_day, ROUND, Assumed()), size(2 * per_day, ROUND, Assumed())
    assert found.replicas >= 2 * found.queues
    for name in ("peak", "quotas", "in_flight", "queues", "replicas", "redis_mb"):
        assert getattr(more, name) >= getattr(found, name)


def test_outcomes_are_kept_as_long_as_is_reckoned_with() -> None:
    """The days are those of the claims."""
    assert KEEP_MILLISECONDS == sizing.KEPT_DAYS * DAILY * 1_000

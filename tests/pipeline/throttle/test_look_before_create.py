"""Law `look-before-create` in virtual time: a create follows a fresh look-up, also after a wait between the two."""

from collections.abc import Callable

from tests.pipeline.virtual_time.world import World
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence

Build = Callable[..., World]


def test_create_after_wait_for_rate_limiter_follows_fresh_lookup(build: Build) -> None:
    """One replica may make a call in five seconds; the sender's copy reaches the other one between two of its calls."""
    world = build(2, reconcile="always", rates=(0.2, None))
    throttled, fast = world.replicas
    throttled.receive(world.message("first"))
    throttled.receive(world.message("twice"))
    world.run(12.0)
    fast.receive(world.message("twice"))
    world.run(60.0)
    assert world.dcs.created == {"first": 1, "twice": 1}


def test_retried_create_follows_fresh_lookup(build: Build) -> None:
    """A create gets 429 twice and is retried in the process; meanwhile the other replica created the task."""
    world = build(2, reconcile="always")
    first, second = world.replicas
    throttled = CallError(Evidence.REFUSED, ErrorKind.THROTTLED, CallStatus.ANSWERED, http_status=429, retry_after=2.6)
    world.dcs.faults["p1"] = throttled
    first.receive(world.message("twice"))
    world.run(1.0)
    del world.dcs.faults["p1"]
    second.receive(world.message("twice"))
    world.run(1.5)
    world.dcs.faults["p1"] = throttled
    world.run(4.5)
    del world.dcs.faults["p1"]
    world.run(60.0)
    assert world.dcs.created == {"twice": 1}

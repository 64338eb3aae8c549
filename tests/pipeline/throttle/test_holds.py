"""Refused credentials, wrong endpoints, refused projects: probes find the cause, and hardly any request is parked."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.pipeline.virtual_time.fakes import UNREACHABLE
from tests.pipeline.virtual_time.world import World
from worker.policy.call_result import CallError, CallStatus, Condition, ErrorKind, Evidence, NamedLimit

REGION = "cn-north-4"
REFUSED = CallError(
    Evidence.REFUSED,
    ErrorKind.UNAUTHENTICATED,
    CallStatus.ANSWERED,
    "no such key",
    http_status=401,
    error_code="APIGW.0301",
)
NO_KEYS = CallError(
    Evidence.NEVER_SENT, ErrorKind.RETRY, CallStatus.NO_CREDENTIALS, "STS refuses keys (HTTP 403: no trust)"
)
LOCKED = replace(REFUSED, condition=Condition.KEY_LOCKED)
NO_ENDPOINT = CallError(
    Evidence.REFUSED, ErrorKind.NOT_FOUND, CallStatus.ANSWERED, http_status=404, error_code="APIGW.0101"
)
Build = Callable[..., World]


def calls(world: World, operation: str | None = None, project: str | None = None) -> list[float]:
    """When calls were made."""
    return [at for at, what, key, _ in world.dcs.calls if operation in (None, what) and project in (None, key)]


# Credentials.


def test_refused_credentials_get_one_call_then_probes(build: Build) -> None:
    """A key that was never accepted, 500 requests: one call and one probe, then probes 60, 120, 240, 300 s apart."""
    world = build(1)
    world.dcs.faults[REGION] = REFUSED
    world.publish(500)
    world.run(1000.0)
    made = calls(world)
    assert made[1] - made[0] < 0.1
    gaps = [later - earlier for earlier, later in itertools.pairwise(made[1:])]
    assert gaps == [pytest.approx(seconds, rel=0.06) for seconds in (60, 120, 240, 300)]
    assert (world.parked, world.highest_round, world.ended) == ([], 0, {})
    (held,) = world.replicas[0].logged("credentials.rejected")
    assert (held["status"], held["error"]) == ("401", "no such key")
    del world.dcs.faults[REGION]
    world.run(lambda: len(world.ended) == 500, at_most=3000)
    assert world.replicas[0].logged("credentials.accepted")
    assert set(world.dcs.created.values()) == {1}


def test_refused_identity_token_holds_the_credentials_and_not_the_service(build: Build) -> None:
    """STS gives no keys for it, so DCS is never asked: the line of the log names who refuses, and the remedy."""
    world = build(1)
    world.dcs.faults[REGION] = NO_KEYS
    world.publish(100)
    world.run(300.0)
    (replica,) = world.replicas
    assert replica.logged("breaker.opened") == []
    assert (replica.throttle.credentials.error, replica.throttle.credentials.is_held) == (NO_KEYS, True)
    (held,) = replica.logged("credentials.rejected")
    assert NO_KEYS.message in held["message"]
    assert held["message"].endswith("dcs-worker doctor names it.")
    del world.dcs.faults[REGION]
    world.run(lambda: len(world.ended) == 100, at_most=1000)
    assert (world.parked, set(world.dcs.created.values())) == ([], {1})


def test_credentials_revoked_under_load_park_nothing(build: Build) -> None:
    """All wait for one probe; nothing is parked, consumption pauses, and all goes on when they are accepted again."""
    world = build(1, latency=0.5)
    world.publish(500)
    world.run(5.0)
    (replica,) = world.replicas
    under_way, started_at = world.dcs.under_way, world.loop.now
    assert under_way > 8
    world.dcs.faults[REGION] = REFUSED
    world.run(50.0)
    assert world.dcs.calls_between(started_at, 50.0) <= under_way * 2 + 1
    assert replica.paused_by == "credentials"
    assert (world.parked, world.highest_round) == ([], 0)
    del world.dcs.faults[REGION]
    world.run(lambda: len(world.ended) == 500, at_most=2400)
    assert set(world.dcs.created.values()) == {1}


def test_consumption_pauses_though_no_call_was_ever_accepted_when_no_credentials_are_to_be_had(build: Build) -> None:
    """A password that IAM refuses is refused for every project: there is none to be found among the requests."""
    world = build(1)
    world.dcs.faults[REGION] = NO_KEYS
    world.publish(500)
    world.run(30.0)
    (replica,) = world.replicas
    assert replica.paused_by == "credentials"
    assert len(world.queue) > 400
    del world.dcs.faults[REGION]
    world.run(lambda: len(world.ended) == 500, at_most=300)


def test_replaced_credentials_are_tried_at_once(build: Build) -> None:
    """One call is under way with them until it is accepted."""
    world = build(1)
    world.dcs.faults[REGION] = REFUSED
    world.publish(100)
    world.run(30.0)
    del world.dcs.faults[REGION]
    assert not world.ended
    world.loop.call_soon(world.replicas[0].throttle.credentials_changed)
    world.run(lambda: len(world.ended) == 100, at_most=40)
    assert calls(world, "probe")[-1] == pytest.approx(30.0, abs=0.1)


def test_locked_key_gets_no_probe_for_five_minutes(build: Build) -> None:
    """No probe at once, whatever the project: tries may prolong the lock."""
    world = build(1)
    world.dcs.faults[REGION] = LOCKED
    for number in range(5):
        world.publish(20, f"r{number}", project_id=f"p{number}")
    world.run(299.0)
    assert len(calls(world)) == 1
    assert [replica.throttle.credentials.error for replica in world.replicas] == [LOCKED]
    world.run(899.0)
    assert len(calls(world)) == 3
    del world.dcs.faults[REGION]
    world.run(lambda: len(world.ended) == 100, at_most=2400)
    assert (world.parked, world.highest_round) == ([], 0)


def test_only_refused_request_is_parked(build: Build) -> None:
    """It was tried once more after a probe was accepted; others notice nothing."""
    world = build(1)
    world.publish(1, "good", project_id="p2")
    world.run(1.0)
    world.dcs.faults["p1"] = REFUSED
    world.publish(1, "bad")
    world.publish(20, "other", project_id="p2")
    world.run(lambda: len(world.ended) == 22, at_most=5)
    assert world.ended["bad-0"][1] == "unauthenticated"
    assert len(calls(world, "create", "p1")) == 2
    assert len(calls(world, "probe")) == 1
    assert world.replicas[0].logged("credentials.rejected") == []


def test_only_refused_project_is_held(build: Build) -> None:
    """One of its 500 requests is parked; then the project is probed, and the others wait in the broker."""
    world = build(1)
    world.publish(1, "good", project_id="p2")
    world.run(1.0)
    world.dcs.faults["all of p1"] = REFUSED
    world.publish(500)
    world.publish(100, "other", project_id="p2")
    world.run(lambda: sum(name.startswith("other") for name in world.ended) == 100, at_most=10)
    world.run(100.0)
    assert len(world.parked) == 1
    assert len(calls(world, "create", "p1")) <= 2 * 8 + 1
    assert not world.replicas[0].paused_by
    del world.dcs.faults["all of p1"]
    world.run(lambda: len(world.ended) == 601, at_most=4000)
    assert (world.highest_round, len(world.parked)) == (0, 1)
    (held,), (resumed,) = (world.replicas[0].logged(f"project.{what}") for what in ("paused", "resumed"))
    assert (held["project_id"], resumed["project_id"]) == ("p1", "p1")
    assert held["message"].startswith(
        "project p1: every call is refused (401 APIGW.0301: no such key); the next probe is in"
    )


def test_request_that_only_waited_for_credentials_is_not_unresolved(build: Build) -> None:
    """No create was sent while they were held: refused alone afterwards, it fails for that reason."""
    world = build(1, reconcile="always")
    world.dcs.faults[REGION] = REFUSED
    world.publish(20)
    world.run(30.0)
    assert (world.ended, world.parked) == ({}, [])
    del world.dcs.faults[REGION]
    world.dcs.faults["all of p1"] = REFUSED
    world.publish(5, "good", project_id="p2")
    world.run(lambda: bool(world.parked), at_most=4000)
    world.run(world.loop.now + 600.0)
    assert {reason for _, reason in world.ended.values()} == {"created", "unauthenticated"}
    assert len(world.parked) == 1


def test_refused_project_at_start_does_not_block_others(build: Build) -> None:
    """Its requests stand in front: as long as nothing has succeeded, those behind are looked at, and accepted."""
    world = build(1)
    world.dcs.faults["all of p1"] = REFUSED
    world.publish(300)
    world.publish(50, "other", project_id="p2")
    world.run(lambda: sum(name.startswith("other") for name in world.ended) == 50, at_most=150)
    assert len(world.parked) <= 1


def test_new_project_is_found_while_the_only_known_one_is_refused(build: Build) -> None:
    """Consumption pauses, but some requests come in after each probe: one of another project ends the hold."""
    world = build(1, reconcile="always")
    world.publish(20, "good")
    world.run(5.0)
    world.dcs.faults["all of p1"] = REFUSED
    world.publish(1, "bad")
    world.run(6.0)
    world.publish(100, "bad-too")
    world.run(7.0)
    assert world.replicas[0].paused_by == "credentials"
    world.publish(50, "late", project_id="p2")
    world.run(lambda: sum(name.startswith("late") for name in world.ended) == 50, at_most=600)
    assert world.replicas[0].logged("credentials.accepted")
    assert (len(world.parked) <= 1, world.highest_round) == (True, 0)


# Endpoints.


def test_wrong_endpoint_is_probed_and_parks_nothing(build: Build) -> None:
    """404 of the gateway, 1,000 waiting: nothing is parked or spent; a probe every 2 to 8 s, and all flows again."""
    world = build(1)
    world.publish(10)
    world.run(2.0)
    started_at = world.loop.now
    world.dcs.faults[REGION] = NO_ENDPOINT
    world.publish(1000, "late")
    world.run(100.0)
    assert (world.parked, world.highest_round) == ([], 0)
    assert 90 / 8.1 <= len(calls(world, "probe")) <= 98 / 2
    assert world.dcs.calls_between(started_at, 100.0) - len(calls(world, "probe")) <= 20
    assert world.replicas[0].paused_by == "region"
    assert len(world.queue) > 900
    (held,) = world.replicas[0].logged("region.rejected")
    assert held["status"] == "404"
    del world.dcs.faults[REGION]
    world.run(lambda: len(world.ended) == 1010, at_most=60)


def test_gateway_404_for_one_request_parks_it(build: Build) -> None:
    """The probe was answered: tried once more, it is parked."""
    world = build(1)
    world.dcs.faults["p1"] = NO_ENDPOINT
    world.publish(1)
    world.run(lambda: bool(world.ended), at_most=5)
    assert world.ended["r-0"][1] == "not_found"
    assert (len(calls(world, "create")), len(calls(world, "probe"))) == (2, 1)


def test_wrong_endpoint_of_region_does_not_hold_other_region(build: Build) -> None:
    """Its requests wait in the broker, and consumption goes on."""
    world = build(1, regions=("a", "b"))
    world.dcs.faults["a"] = NO_ENDPOINT
    world.publish(200, "a", region="a")
    world.publish(200, "b", region="b")
    world.run(lambda: sum(name.startswith("b") for name in world.ended) == 200, at_most=10)
    assert (world.parked, world.replicas[0].paused_by) == ([], "")
    assert world.outcomes["retried", "region"] >= 190


def test_probe_during_outage_is_no_refusal(build: Build) -> None:
    """The hold goes on, and ends soon after the outage."""
    world = build(1)
    world.dcs.faults[REGION] = REFUSED
    world.publish(10)
    world.run(30.0)
    world.dcs.faults[REGION] = UNREACHABLE
    world.run(70.0)
    del world.dcs.faults[REGION]
    world.run(lambda: len(world.ended) == 10, at_most=60)
    assert (world.parked, world.highest_round) == ([], 0)


# Which project is probed.

THROTTLED_FOR_A_DAY = CallError(
    Evidence.REFUSED,
    ErrorKind.THROTTLED,
    CallStatus.ANSWERED,
    http_status=429,
    condition=Condition.PROJECT_THROTTLED,
    throttle=NamedLimit(1000, 86400.0),
)


def test_hold_ends_though_the_last_good_project_is_throttled_for_a_day(build: Build) -> None:
    """Its probe says nothing about the credentials, so that another project is probed next."""
    world = build(1)
    world.publish(5, "o", project_id="p2")
    world.run(2.0)
    world.publish(1, "good")
    world.run(4.0)
    world.dcs.faults["all of p1"] = THROTTLED_FOR_A_DAY
    world.dcs.faults["all of p3"] = REFUSED
    world.publish(1, "bad", project_id="p3")
    world.run(5.0)
    world.publish(100, "late", project_id="p2")
    world.run(lambda: sum(name.startswith("late") for name in world.ended) == 100, at_most=300)


def test_breaker_closes_though_the_last_good_project_is_throttled_for_a_day(build: Build) -> None:
    """A 429 is an answer: the service is back."""
    world = build(1)
    world.publish(5, "o", project_id="p2")
    world.run(2.0)
    world.publish(1, "good")
    world.run(4.0)
    world.dcs.faults[REGION] = UNREACHABLE
    world.publish(100, "late", project_id="p2")
    world.run(40.0)
    assert world.replicas[0].paused_by == "breaker"
    del world.dcs.faults[REGION]
    world.dcs.faults["all of p1"] = THROTTLED_FOR_A_DAY
    world.run(lambda: sum(name.startswith("late") for name in world.ended) == 100, at_most=300)


def test_credentials_are_probed_in_every_region_that_shares_them(build: Build) -> None:
    """A project that is refused in one region, where no other is known, does not hold the other region."""
    world = build(1, regions=("a", "b"))
    world.publish(20, "good", region="a")
    world.run(5.0)
    world.dcs.faults["all of foreign"] = REFUSED
    world.publish(1, "bad", region="b", project_id="foreign")
    world.run(6.0)
    world.publish(100, "late", region="a")
    world.run(lambda: sum(name.startswith("late") for name in world.ended) == 100, at_most=300)
    assert len(world.parked) == 1


def test_refusal_with_retry_after_is_checked_at_once(build: Build) -> None:
    """The wait that one request is asked for does not hold the credentials of all."""
    world = build(1)
    world.publish(5, "good", project_id="p2")
    world.run(2.0)
    world.dcs.faults["all of p1"] = replace(REFUSED, retry_after=3600.0)
    world.publish(1, "bad")
    world.run(3.0)
    world.publish(100, "late", project_id="p2")
    world.run(lambda: sum(name.startswith("late") for name in world.ended) == 100, at_most=30)


def test_projects_that_are_held_alone_leave_the_good_project_to_be_probed(build: Build) -> None:
    """A later refusal of another project is checked with the project that works."""
    world = build(1)
    world.publish(20, "good", project_id="p2")
    world.run(5.0)
    for number, project in enumerate(("p1", "p3")):
        world.dcs.faults[f"all of {project}"] = REFUSED
        world.publish(2, f"bad{number}", project_id=project)
        world.run(world.loop.now + 200.0)
    world.dcs.faults["all of p4"] = REFUSED
    world.publish(1, "bad4", project_id="p4")
    world.publish(50, "late", project_id="p2")
    world.run(lambda: sum(name.startswith("late") for name in world.ended) == 50, at_most=30)
    assert world.replicas[0].logged("credentials.rejected") == []

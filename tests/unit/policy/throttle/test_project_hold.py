"""Projects in trouble step aside, so that no crowd comes back at once and all others flow on."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker.policy.places import Places
from worker.policy.tenants import PROJECTS, Tenant, Tenants

from worker.policy.call_result import Throttle

DELAYS = (10.0, 60.0, 300.0, 1800.0)


def throttled(tenants: Tenants, project: str = "p", calls: int = 5) -> Tenant:
    """A project that was just refused at `calls` per second, at the time 0."""
    tenant = tenants.blamed(project)
    for _ in range(calls):
        tenant.pace.begin(0.0)
    tenant.pace.refused(0.0, 0.0, Throttle(calls, 1.0), None)
    return tenant


def held(why: str = "credentials") -> Tenant:
    """A project that was refused five times in a row, at the time 0."""
    tenant = Tenant(DELAYS)
    tenant.why = why
    assert [tenant.hold.failed(0, request, 0.0, 1.0) for request in range(5)][-1]
    return tenant


# Places.


def test_a_crowd_is_spread_over_the_places() -> None:
    """Five calls per second: what comes back after ten seconds is used up when those of the minute come back."""
    places = Places(DELAYS)
    chosen = Counter(places.choose(5.0, 0.0, n / 1000) for n in range(5000))
    assert chosen == {10.0: 300, 60.0: 1500, 300.0: 3200}


def test_a_place_is_free_again_when_its_requests_are_back() -> None:
    """Ten seconds later the first place takes as many again."""
    places = Places(DELAYS)
    assert {places.choose(1.0, 0.0, n / 1000) for n in range(60)} == {10.0}
    assert places.choose(1.0, 0.0, 5.0) == 60.0
    assert places.choose(1.0, 0.0, 10.1) == 10.0
    assert repr(places) == "<Places: [1, 1, 0, 0]>"


@pytest.mark.parametrize(
    ("at_least", "delay"), [(0.0, 10.0), (10.0, 10.0), (11.0, 60.0), (301.0, 1800.0), (9e9, 1800.0)]
)
def test_a_place_is_as_long_as_what_must_be_waited_for(at_least: float, delay: float) -> None:
    """The first one that is long enough, else the last."""
    assert Places(DELAYS).choose(5.0, at_least, 0.0) == delay


@given(
    st.lists(st.floats(0.01, 5000.0), min_size=1, max_size=6),
    st.lists(st.tuples(st.floats(0.01, 1000.0), st.floats(0.0, 9000.0), st.floats(0.0, 100.0)), max_size=50),
)
def test_a_place_is_always_one_of_the_schedule(delays: list[float], asked: list[tuple[float, float, float]]) -> None:
    """Any schedule, also one that is not sorted, has a place for everybody."""
    places, now = Places(delays), 0.0
    for rate, at_least, pause in asked:
        now += pause
        chosen = places.choose(rate, at_least, now)
        assert chosen in delays
        assert chosen >= at_least or chosen == delays[-1]


# One project.


def test_a_project_in_no_trouble_goes_ahead() -> None:
    """Known, but neither throttled nor held."""
    tenant = Tenant(DELAYS)
    assert tenant.aside("r", 0.0, 100, 1) is None
    assert tenant.is_well
    assert repr(tenant) == "<Tenant: <Pace: none>, <Breaker: closed>>"


def test_a_throttled_project_waits_in_hand_as_far_as_it_may() -> None:
    """As many as have hands, and no more than get their turn within ten seconds."""
    tenant = throttled(Tenants(DELAYS))
    assert tenant.aside("r", 0.0, 15, 16) is None
    assert tenant.aside("r", 0.0, 16, 16) == (10.0, "throttled")
    assert tenant.aside("r", 0.0, 49, 64) is None
    assert tenant.aside("r", 0.0, 50, 64) == (10.0, "throttled")
    assert not tenant.is_well


def test_one_may_always_wait() -> None:
    """However slow the pace: else nothing of the project would ever be done."""
    tenant = Tenants(DELAYS).blamed("p")
    tenant.pace.refused(0.0, 0.0, Throttle(1, 3600.0), None)
    assert tenant.aside("r", 0.0, 0, 1) is None
    assert tenant.aside("r", 0.0, 1, 64) is not None


def test_a_request_that_was_just_looked_up_is_not_held() -> None:
    """The look would have been for nothing; once, and for this request alone."""
    tenant = throttled(Tenants(DELAYS))
    tenant.looked("r")
    assert tenant.aside("other", 0.0, 50, 1) is not None
    assert tenant.aside("r", 0.0, 50, 1) is None
    assert tenant.aside("r", 0.0, 50, 1) is not None


def test_who_looked_is_not_remembered_without_end() -> None:
    """Requests that never come back cost no memory."""
    tenant = Tenant(DELAYS)
    for request in range(5 * PROJECTS):
        tenant.looked(request)
    assert len(tenant._looked) <= PROJECTS


@pytest.mark.parametrize("why", ["credentials", "quota"])
def test_a_held_project_makes_only_probes(why: str) -> None:
    """Ten seconds nobody; then one, while all others go on stepping aside; its success lets everybody go."""
    tenant = held(why)
    assert tenant.aside("r", 0.0, 0, 64) == (10.0, why)
    assert tenant.aside("r", 9.0, 0, 64) == (10.0, why)
    assert tenant.aside("r", 10.0, 0, 64) is None
    probe = tenant.hold.begin(10.0, 1.0)
    assert tenant.aside("r", 10.1, 0, 64) == (60.0, why)
    assert tenant.hold.succeeded(probe)
    assert tenant.aside("r", 10.2, 0, 64) is None


def test_a_held_project_comes_back_spread_out() -> None:
    """Five thousand requests are not all back when the next probe is due."""
    tenant = held()
    chosen = Counter((tenant.aside("r", n / 1000, 0, 64) or (0.0,))[0] for n in range(5000))
    assert chosen == {10.0: 600, 60.0: 3000, 300.0: 1400}


# All of them.


def test_healthy_projects_are_not_tracked() -> None:
    """Only what is in trouble is known, and no more than so many."""
    tenants = Tenants(DELAYS)
    assert tenants.arrived("p", "r", 0.0) is None
    for number in range(PROJECTS + 5):
        tenants.blamed(str(number))
    assert repr(tenants) == f"<Tenants: {PROJECTS} in trouble>"
    assert tenants.arrived("0", "r", 0.0) is None
    assert tenants.arrived("5", "r", 0.0) is tenants.blamed("5")


def test_others_leave_a_throttled_project_a_share() -> None:
    """A quarter of the hands for some seconds after a request of another project; alone, all of them."""
    tenants = Tenants(DELAYS)
    throttled(tenants)
    tenants.arrived("other", "r", 100.0)
    assert tenants.hands(104.0, 64) == 16
    assert tenants.hands(104.0, 2) == 1
    assert tenants.hands(106.0, 64) == 64


def test_newly_throttled_it_looks_through_the_queue() -> None:
    """Others may stand behind: it keeps its share until the first that stepped aside is back."""
    tenants = Tenants(DELAYS)
    throttled(tenants)
    for number in range(3000):
        tenants.arrived("p", number, number / 1000)
        tenants.went_aside(number)
    assert tenants.hands(3.0, 64) == 16
    tenants.arrived("p", 7, 10.0)
    assert tenants.hands(10.0, 64) == 64


def test_looking_ends_at_last() -> None:
    """After half a minute, should no request that stepped aside come back here."""
    tenants = Tenants(DELAYS)
    throttled(tenants)
    tenants.arrived("p", 1, 0.0)
    tenants.arrived("p", 2, 29.0)
    assert tenants.hands(29.0, 64) == 16
    tenants.arrived("p", 3, 31.0)
    assert tenants.hands(31.0, 64) == 64


@pytest.mark.parametrize(("others_seen_at", "again_at"), [(None, 301.0), (20.0, 31.0)])
def test_it_looks_again_now_and_then(others_seen_at: float | None, again_at: float) -> None:
    """Often where several projects are at work, seldom where none but this one was seen."""
    tenants = Tenants(DELAYS)
    throttled(tenants)
    tenants.arrived("p", 1, 0.0)
    tenants.went_aside(1)
    if others_seen_at is not None:
        tenants.arrived("other", 9, others_seen_at)
    tenants.arrived("p", 1, 26.0)
    assert tenants.hands(26.0, 64) == 64
    tenants.arrived("p", 2, again_at)
    assert tenants.hands(again_at, 64) == 16

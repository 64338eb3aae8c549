"""Random plans by seed: several requests, replicas, copies and faults together."""

from random import Random
from typing import Final

from tests.simulation.scenario.call_endings import CALL_ENDINGS, ENDINGS_OF_EVERY_REQUEST
from tests.simulation.scenario.fault_points import FAULTS_ANYWHERE
from tests.simulation.scenario.plan import Outage, Plan, PlannedRequest, TimedFault

_ENDING_NAMES: Final = tuple(name for name in CALL_ENDINGS if name not in ENDINGS_OF_EVERY_REQUEST)
_RETRY_DELAYS: Final = ((10.0, 60.0, 300.0, 1800.0), (10.0, 60.0), (5.0, 50.0, 200.0), (30.0, 50.0), (50.0,))
_TAKEOVER_ENDINGS: Final = (*("busy",) * 4, "full", "throttled", "unsent", "error", "timeout", "created-late-timeout")
_NOT_AFTER: Final = (None, None, None, 1.0, 70.0, 130.0)
TAKEOVER_SHARE: Final = 0.15
LATE_COPY_SHARE: Final = 0.1
OUTAGE_SHARE: Final = 0.1
THROTTLE_SHARE: Final = 0.03
CLAIMS_SHARE: Final = 0.1
FOLLOW_UP_SHARE: Final = 0.1
TWINS_SHARE: Final = 0.05
EXPIRED_SHARE: Final = 0.02
REFUSAL_SHARE: Final = 0.05
_AWAY: Final = ("look", "pause")
_KILL_POINTS: Final = ("create.before", "create.sent", "create.after", "lookup.before", "lookup.after")
_LISTING_LAGS: Final = (0.0, 0.0, 1.0, 20.0, 44.0)


def sampled(seed: int) -> Plan:
    """Random plan of a seed."""
    rng = Random(seed)
    theme = rng.random()
    if theme < TAKEOVER_SHARE:
        return _takeover(rng, seed)
    if theme < TAKEOVER_SHARE + LATE_COPY_SHARE:
        return _late_copies(rng, seed)
    if theme < TAKEOVER_SHARE + LATE_COPY_SHARE + OUTAGE_SHARE:
        return _outage(rng, seed)
    is_claims = theme < TAKEOVER_SHARE + LATE_COPY_SHARE + OUTAGE_SHARE + CLAIMS_SHARE
    if is_claims:
        return _claims_away(rng, seed)
    for share, of_theme in (
        (THROTTLE_SHARE, _short_throttles),
        (THROTTLE_SHARE + FOLLOW_UP_SHARE, _follow_up),
        (THROTTLE_SHARE + FOLLOW_UP_SHARE + REFUSAL_SHARE, _refusals),
        (THROTTLE_SHARE + FOLLOW_UP_SHARE + REFUSAL_SHARE + TWINS_SHARE, _twins),
        (THROTTLE_SHARE + FOLLOW_UP_SHARE + REFUSAL_SHARE + TWINS_SHARE + EXPIRED_SHARE, _expired_copies),
    ):
        if theme > 1.0 - share:
            return of_theme(rng, seed)
    return _mixed(rng, seed)


def _refusals(rng: Random, seed: int) -> Plan:
    """Creates that DCS answers for good, or with 409, while replicas end, or sleep for longer than a claim lasts."""
    has_claims = rng.random() < 0.6
    return Plan(
        requests=(
            PlannedRequest(
                call_endings=(rng.choice(("conflict", "created-conflict", "rejected", "rejected")),),
                at=rng.choice((0.0, rng.uniform(0.0, 30.0))),
                copies=tuple(rng.uniform(0.0, 120.0) for _ in range(rng.choice((0, 1, 2)))) if has_claims else (),
            ),
        ),
        replicas=rng.choice((1, 2)),
        claims=has_claims,
        reconcile=rng.choice(("always", "ambiguous")),
        tries=rng.choice((1, 3)),
        prefetch=rng.choice((1, 4)),
        repeats_at_end=has_claims and rng.random() < 0.5,
        seed=seed,
        fault_rate=0.15,
        fault_budget=rng.choice((1, 2, 3)),
        only_faults=("drain", "drain", "crash", "channel", "freeze", "freeze-long"),
        timed_faults=tuple(
            TimedFault(at=rng.uniform(0.0, 30.0), replica=replica, fault=rng.choice(("freeze", "freeze-long")))
            for replica in range(rng.choice((0, 0, 1, 2)))
        ),
    )


def _follow_up(rng: Random, seed: int) -> Plan:
    """Created tasks that are followed up, in one project or two; in some runs nothing fails but DCS, for a while."""
    endings = ("ok", "ok-listed-late", "created-late-timeout", "created-reset", "busy")
    requests = (
        PlannedRequest(
            call_endings=(rng.choice(endings),),
            copies=tuple(rng.uniform(0.0, 60.0) for _ in range(rng.choice((0, 0, 1)))),
            project=rng.choice("ppq"),
            fate=rng.choice(("ready", "ready", "failed", "released", "deleted", "stuck")),
            fate_after=rng.choice((5.0, 15.0, rng.uniform(0.0, 90.0))),
        )
        for _ in range(rng.choice((1, 1, 2, 4)))
    )
    ending = rng.choice(("unsent", "error", "key-refused", "no-endpoint"))
    outage = Outage(at=rng.uniform(0.0, 60.0), seconds=rng.choice((30.0, 200.0)), ending=ending)
    has_outage, has_claims = rng.random() < 0.2, rng.random() < 0.5
    return Plan(
        requests=tuple(requests),
        replicas=rng.choice((1, 2, 3)),
        claims=has_claims,
        repeats_at_end=has_claims and rng.random() < 0.3,
        listing_lag=rng.choice(_LISTING_LAGS),
        seed=seed,
        fault_rate=rng.choice((0.03, 0.1)),
        fault_budget=0 if has_outage else rng.choice((0, 1, 2, 5)),
        outages=(outage,) if has_outage else (),
        follow_up_timeout=rng.choice((60.0, 100.0, 300.0)),
    )


def _twins(rng: Random, seed: int) -> Plan:
    """Requests for the same task, soon or long after one another, where DCS cuts the markers off."""
    endings = ("ok", "created-late-timeout", "created-reset", "timeout", "unsent", "busy")
    return Plan(
        requests=tuple(
            PlannedRequest(
                call_endings=tuple(rng.choice(endings) for _ in range(rng.choice((0, 0, 1, 2)))),
                at=rng.choice((0.0, 0.0, 1.0, rng.uniform(0.0, 200.0))),
            )
            for _ in range(rng.choice((1, 2, 2, 3)))
        ),
        replicas=rng.choice((1, 2)),
        claims=rng.random() < 0.5,
        reconcile=rng.choice(("always", "always", "ambiguous")),
        has_shared_name=True,
        text_form=rng.choice(("cut", "cut", "cut short")),
        listing_lag=rng.choice(_LISTING_LAGS),
        seed=seed,
        fault_rate=0.1,
        fault_budget=rng.choice((0, 0, 1, 2)),
        only_faults=("crash", "channel", "freeze", "drain", "stall", "confirm-lost", "lookup-503"),
    )


def _expired_copies(rng: Random, seed: int) -> Plan:
    """Copies that a sender repeats when `not_after` is near or over, while a task may exist of which one knows."""
    endings = ("created-late-timeout", "created-reset", "created-error", "timeout", "busy")
    not_after = rng.uniform(1.0, 100.0)
    return Plan(
        requests=(
            PlannedRequest(
                call_endings=(rng.choice(endings),),
                copies=tuple(not_after + rng.uniform(-20.0, 60.0) for _ in range(rng.choice((1, 1, 2)))),
                not_after=not_after,
            ),
        ),
        replicas=rng.choice((2, 2, 3)),
        claims=rng.random() < 0.3,
        reconcile="always",
        tries=rng.choice((1, 3)),
        prefetch=rng.choice((1, 4)),
        listing_lag=rng.choice(_LISTING_LAGS),
        seed=seed,
        fault_rate=0.1,
        fault_budget=rng.choice((0, 0, 1, 2)),
        only_faults=("crash", "channel", "drain", "lookup-slow", "lookup-503", "claims-cut", "claims-away"),
    )


def _claims_away(rng: Random, seed: int) -> Plan:
    """Three copies at once, before, during or after an outage of the claims, for one replica or for all."""
    at = rng.choice((0.0, 1.0, rng.uniform(0.0, 90.0)))
    copies = tuple(at + rng.choice((0.0, 0.0, rng.uniform(0.0, 3.0), rng.uniform(0.0, 120.0))) for _ in range(2))
    replicas = rng.choice((2, 2, 3))
    outages = rng.choice(("claims-cut", "claims-away")), rng.choice(("claims-cut", "claims-away", "crash", "drain"))
    endings = rng.choices(("created-late-timeout", "ok-listed-late", "ok", "timeout"), k=rng.choice((0, 1, 2)))
    return Plan(
        requests=(PlannedRequest(call_endings=tuple(endings), at=at, copies=copies),),
        replicas=replicas,
        claims=True,
        claims_away=rng.choice(("look", "pause", "pause")),
        reconcile=rng.choice(("always", "always", "ambiguous")),
        tries=rng.choice((1, 3)),
        prefetch=rng.choice((1, 4)),
        listing_lag=rng.choice(_LISTING_LAGS),
        seed=seed,
        fault_rate=0.1,
        fault_budget=rng.choice((0, 1, 2)),
        only_faults=("copy", "claims-cut", "claims-away", "claim-reply-lost", "crash", "channel", "stall", "freeze"),
        timed_faults=tuple(
            TimedFault(at=rng.choice((0.5, 2.0, rng.uniform(0.0, 100.0))), replica=rng.randrange(replicas), fault=fault)
            for fault in outages[: rng.choice((1, 2))]
        ),
    )


def _outage(rng: Random, seed: int) -> Plan:
    """Requests of two projects before, during and after an outage; in half of the runs nothing else fails."""
    ending = rng.choice(("unsent", "error", "key-refused", "no-endpoint", "forbidden", "full", "throttled"))
    project = "p" if ending in ("forbidden", "full", "throttled") else ""
    is_calm = rng.random() < 0.5
    has_claims = rng.random() < 0.5
    at = rng.choice((0.0, rng.uniform(0.0, 60.0)))
    requests = [
        PlannedRequest(at=rng.choice((0.0, at, rng.uniform(0.0, 90.0))), project=rng.choice("ppq"))
        for _ in range(rng.choice((2, 4, 8)))
    ]
    if project and is_calm:  # enough of its requests for a hold, and some of the other project while it lasts
        requests += [PlannedRequest(at=at, project="p")] * 8
        requests += [PlannedRequest(at=at + seconds, project="q") for seconds in (15.0, 40.0, 90.0)]
    return Plan(
        requests=tuple(requests),
        replicas=rng.choice((1, 2)),
        claims=has_claims,
        reconcile=rng.choice(("ambiguous", "always")),
        tries=rng.choice((1, 3)),
        delays=(10.0, 60.0, 300.0, 1800.0),
        prefetch=rng.choice((1, 4, 16)),
        seed=seed,
        fault_rate=0.0 if is_calm else 0.05,
        fault_budget=0 if is_calm else rng.choice((1, 2)),
        only_faults=() if is_calm else ("freeze", "freeze-long", "channel", "crash", "drain", "broker", "lookup-slow"),
        outages=(Outage(at=at, seconds=rng.choice((30.0, 200.0, 700.0)), ending=ending, project=project),),
    )


def _short_throttles(rng: Random, seed: int) -> Plan:
    """Creates that are throttled for moments, so that look and create lie apart in one delivery."""
    return Plan(
        requests=tuple(
            PlannedRequest(call_endings=("throttled-shortly",) * rng.choice((1, 2))) for _ in range(rng.choice((1, 4)))
        ),
        replicas=rng.choice((1, 2)),
        claims=rng.random() < 0.5,
        reconcile="always",
        tries=3,
        seed=seed,
        fault_rate=0.05,
        fault_budget=rng.choice((0, 1)),
        only_faults=("stall", "freeze", "channel", "lookup-slow"),
    )


def _late_copies(rng: Random, seed: int) -> Plan:
    """Copies that arrive while a task may exist that is not listed yet, and slow look-ups."""
    return Plan(
        requests=(
            PlannedRequest(
                call_endings=(rng.choice(("created-late-timeout", "created-late-reset", "created-error", "timeout")),),
                copies=tuple(rng.uniform(20.0, 100.0) for _ in range(rng.choice((1, 2)))),
                not_after=rng.choice(_NOT_AFTER),
            ),
        ),
        replicas=rng.choice((1, 2)),
        claims=True,
        claims_away=rng.choice(_AWAY),
        reconcile=rng.choice(("always", "ambiguous")),
        tries=rng.choice((1, 3)),
        repeats_at_end=rng.random() < 0.5,
        seed=seed,
        fault_rate=0.3,
        fault_budget=rng.choice((1, 2, 3)),
        only_faults=("lookup-slow", "lookup-503", "stall", "channel"),
    )


def _takeover(rng: Random, seed: int) -> Plan:
    """A request near the end of a short retry schedule: a replica freezes, and another one takes over."""
    delays = rng.choice(((50.0,), (30.0, 50.0)))
    calls = rng.choice((1, len(delays), len(delays) + 1))
    has_claims = rng.random() < 0.7
    return Plan(
        requests=(
            PlannedRequest(
                call_endings=tuple(rng.choice(_TAKEOVER_ENDINGS) for _ in range(calls)),
                not_after=rng.choice(_NOT_AFTER),
            ),
        ),
        claims=has_claims,
        claims_away=rng.choice(_AWAY),
        reconcile=rng.choice(("always", "ambiguous")),
        tries=1,
        delays=delays,
        repeats_at_end=has_claims,
        listing_lag=rng.choice(_LISTING_LAGS),
        seed=seed,
        fault_rate=0.1,
        fault_budget=rng.choice((1, 2)),
        only_faults=("freeze", "freeze-long", "channel", "lookup-slow"),
    )


def _mixed(rng: Random, seed: int) -> Plan:
    has_claims = rng.random() < 0.55
    replicas = rng.choice((1, 2, 2, 2, 3))
    has_marker = rng.random() < 0.9
    reconcile = rng.choices(("always", "ambiguous", "off"), (45, 50, 5))[0]
    may_copy = has_claims or replicas == 1 or reconcile == "always"
    count = rng.choice((1, 1, 2, 3))
    return Plan(
        requests=tuple(
            _request(rng, may_copy=may_copy, may_clash=has_claims, has_marker=has_marker) for _ in range(count)
        ),
        replicas=replicas,
        claims=has_claims,
        claims_away=rng.choice(_AWAY),
        reconcile=reconcile,
        marker=has_marker,
        has_shared_name=has_marker and rng.random() < 0.3,
        tries=rng.choice((1, 2, 3)),
        delays=rng.choice(_RETRY_DELAYS),
        delivery_limit=rng.choice((10, 10, 10, 3)),
        repeats_at_end=may_copy and rng.random() < 0.4,
        prefetch=rng.choice((1, 2, 4)),
        listing_lag=rng.choice(_LISTING_LAGS),
        seed=seed,
        fault_rate=rng.choice((0.03, 0.06, 0.12)),
        fault_budget=rng.choice((1, 2, 3, 5)),
        timed_faults=tuple(_timed_fault(rng) for _ in range(rng.choice((0, 0, 1, 2)))),
        text_form=rng.choice(("as sent", "folded", "unknown") if has_marker else ("as sent", "folded")),
    )


def _request(rng: Random, *, may_copy: bool, may_clash: bool, has_marker: bool) -> PlannedRequest:
    """A random request; most are plain."""
    at = rng.choice((0.0, 0.0, rng.uniform(0.0, 3.0)))
    odd = rng.random()
    return PlannedRequest(
        call_endings=tuple(rng.choice(_ENDING_NAMES) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 5)))),
        at=at,
        copies=tuple(_soon_after(rng, at) for _ in range(rng.choice((0, 1, 1, 2)))) if may_copy else (),
        clashes=(_soon_after(rng, at + 0.5),) if may_clash and rng.random() < 0.1 else (),
        not_after=at + rng.choice((0.02, 1.0, 31.0, 62.0, rng.uniform(0.0, 120.0))) if odd < 0.08 else None,
        unrelated_tasks=0 if has_marker or rng.random() < 0.7 else 2,
        kills_at=rng.choice(_KILL_POINTS) if 0.08 < odd < 0.11 else None,
        is_invalid=odd > 0.98,
    )


def _soon_after(rng: Random, at: float) -> float:
    return at + rng.choice((0.0, *(rng.uniform(0.0, longest) for longest in (0.2, 40.0, 150.0, 400.0))))


def _timed_fault(rng: Random) -> TimedFault:
    at = rng.choice((rng.uniform(0.0, 1.0), rng.uniform(0.0, 35.0), rng.uniform(0.0, 150.0)))
    return TimedFault(at=at, replica=rng.randrange(3), fault=rng.choice(FAULTS_ANYWHERE))

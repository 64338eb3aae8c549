"""Plans drawn by seed: several requests, replicas, copies, faults that meet each other."""

from random import Random
from typing import Final

from tests.simulation.scenario.call_endings import CONCERNING_ALL, ENDINGS
from tests.simulation.scenario.fault_points import ANYWHERE
from tests.simulation.scenario.plan import Errand, Outage, Plan, Timed

_NAMES: Final = tuple(name for name in ENDINGS if name not in CONCERNING_ALL)
_DELAYS: Final = ((10.0, 60.0, 300.0, 1800.0), (10.0, 60.0), (5.0, 50.0, 200.0), (30.0, 50.0), (50.0,))
_REFUSED: Final = (*("busy",) * 4, "full", "throttled", "unsent", "error", "lost-slow", "late")
_ENDS: Final = (None, None, None, 1.0, 70.0, 130.0)
TAKEOVERS: Final = 0.15
LATECOMERS: Final = 0.1
OUTAGES: Final = 0.1
_KILLS: Final = ("create.before", "create.sent", "create.after", "find.before", "find.after")
_LAGS: Final = (0.0, 0.0, 1.0, 20.0, 44.0)


def sampled(seed: int) -> Plan:
    """The plan of a seed."""
    rng = Random(seed)
    theme = rng.random()
    if theme < TAKEOVERS:
        return _takeover(rng, seed)
    if theme < TAKEOVERS + LATECOMERS:
        return _latecomer(rng, seed)
    return _outage(rng, seed) if theme < TAKEOVERS + LATECOMERS + OUTAGES else _any(rng, seed)


def _outage(rng: Random, seed: int) -> Plan:
    """Requests of two projects that come before, in and after an outage; in half of the runs nothing else fails."""
    ending = rng.choice(("unsent", "error", "key-refused", "no-endpoint", "forbidden", "full", "throttled"))
    project = "p" if ending in ("forbidden", "full", "throttled") else ""
    is_calm = rng.random() < 0.5
    has_claims = rng.random() < 0.5
    at = rng.choice((0.0, rng.uniform(0.0, 60.0)))
    errands = (
        Errand(at=rng.choice((0.0, at, rng.uniform(0.0, 90.0))), project=rng.choice("ppq"))
        for _ in range(rng.choice((2, 4, 8)))
    )
    return Plan(
        errands=tuple(errands),
        replicas=rng.choice((1, 2)),
        claims=has_claims,
        reconcile=rng.choice(("ambiguous", "always")),
        tries=rng.choice((1, 3)),
        delays=(10.0, 60.0, 300.0, 1800.0),
        prefetch=rng.choice((1, 4, 16)),
        seed=seed,
        rate=0.0 if is_calm else 0.05,
        budget=0 if is_calm else rng.choice((1, 2)),
        only=() if is_calm else ("freeze", "freeze-long", "channel", "crash", "drain", "broker", "look-slow"),
        outages=(Outage(at=at, seconds=rng.choice((30.0, 200.0, 700.0)), ending=ending, project=project),),
    )


def _latecomer(rng: Random, seed: int) -> Plan:
    """Copies that come while a task may exist that is not listed yet, and look-ups that take their time."""
    return Plan(
        errands=(
            Errand(
                script=(rng.choice(("late", "late-reset", "error-acted", "lost-slow")),),
                copies=tuple(rng.uniform(20.0, 100.0) for _ in range(rng.choice((1, 2)))),
                not_after=rng.choice(_ENDS),
            ),
        ),
        replicas=rng.choice((1, 2)),
        claims=True,
        tries=rng.choice((1, 3)),
        has_echo=rng.random() < 0.5,
        seed=seed,
        rate=0.3,
        budget=rng.choice((1, 2, 3)),
        only=("look-slow", "look-503", "stall", "channel"),
    )


def _takeover(rng: Random, seed: int) -> Plan:
    """A request that comes to the end of a short schedule, where a replica stands still and another takes over."""
    delays = rng.choice(((50.0,), (30.0, 50.0)))
    calls = rng.choice((1, len(delays), len(delays) + 1))
    has_claims = rng.random() < 0.7
    return Plan(
        errands=(Errand(script=tuple(rng.choice(_REFUSED) for _ in range(calls)), not_after=rng.choice(_ENDS)),),
        claims=has_claims,
        tries=1,
        delays=delays,
        has_echo=has_claims,
        lag=rng.choice(_LAGS),
        seed=seed,
        rate=0.1,
        budget=rng.choice((1, 2)),
        only=("freeze", "freeze-long", "channel", "look-slow"),
    )


def _any(rng: Random, seed: int) -> Plan:
    has_claims = rng.random() < 0.55
    replicas = rng.choice((1, 2, 2, 2, 3))
    has_marker = rng.random() < 0.9
    may_copy = has_claims or replicas == 1
    count = rng.choice((1, 1, 2, 3))
    return Plan(
        errands=tuple(
            _errand(rng, may_copy=may_copy, may_clash=has_claims, has_marker=has_marker) for _ in range(count)
        ),
        replicas=replicas,
        claims=has_claims,
        reconcile=rng.choices(("ambiguous", "always", "off"), (85, 12, 3))[0],
        marker=has_marker,
        one_name=has_marker and rng.random() < 0.3,
        tries=rng.choice((1, 2, 3)),
        delays=rng.choice(_DELAYS),
        limit=rng.choice((10, 10, 10, 3)),
        has_echo=may_copy and rng.random() < 0.4,
        prefetch=rng.choice((1, 2, 4)),
        lag=rng.choice(_LAGS),
        seed=seed,
        rate=rng.choice((0.03, 0.06, 0.12)),
        budget=rng.choice((1, 2, 3, 5)),
        timed=tuple(_timed(rng) for _ in range(rng.choice((0, 0, 1, 2)))),
    )


def _errand(rng: Random, *, may_copy: bool, may_clash: bool, has_marker: bool) -> Errand:
    """One request; most are plain."""
    at = rng.choice((0.0, 0.0, rng.uniform(0.0, 3.0)))
    odd = rng.random()
    return Errand(
        script=tuple(rng.choice(_NAMES) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 5)))),
        at=at,
        copies=tuple(_soon(rng, at) for _ in range(rng.choice((0, 1, 1, 2)))) if may_copy else (),
        clashes=(_soon(rng, at + 0.5),) if may_clash and rng.random() < 0.1 else (),
        not_after=at + rng.choice((0.02, 1.0, 31.0, 62.0, rng.uniform(0.0, 120.0))) if odd < 0.08 else None,
        strangers=0 if has_marker or rng.random() < 0.7 else 2,
        kills=rng.choice(_KILLS) if 0.08 < odd < 0.11 else None,
        is_broken=odd > 0.98,
    )


def _soon(rng: Random, at: float) -> float:
    return at + rng.choice((0.0, *(rng.uniform(0.0, longest) for longest in (0.2, 40.0, 150.0, 400.0))))


def _timed(rng: Random) -> Timed:
    at = rng.choice((rng.uniform(0.0, 1.0), rng.uniform(0.0, 35.0), rng.uniform(0.0, 150.0)))
    return Timed(at=at, replica=rng.randrange(3), fault=rng.choice(ANYWHERE))

"""Plans drawn by seed: several requests, replicas, copies, faults that meet each other."""

from random import Random
from typing import Final

from worker.tools.proof.endings import ENDINGS
from worker.tools.proof.plan import Errand, Plan, Timed
from worker.tools.proof.points import ANYWHERE

_NAMES: Final = tuple(ENDINGS)
_DELAYS: Final = ((10.0, 60.0, 300.0, 1800.0), (10.0, 60.0), (5.0, 50.0, 200.0), (20.0, 50.0), (50.0,))
_KILLS: Final = ("create.before", "create.sent", "create.after", "find.before", "find.after")
_LAGS: Final = (0.0, 0.0, 1.0, 20.0, 44.0)


def sampled(seed: int) -> Plan:
    """The plan of a seed."""
    rng = Random(seed)
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

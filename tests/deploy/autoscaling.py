"""A day of load in small steps, scaled by useful replicas or by the length of the queue: `make scaling`.

The decision is the worker's own (worker/policy/replicas.py), what scales is a model of the HorizontalPodAutoscaler with
the numbers of the ScaledObject. How many calls replicas that share a quota have refused was measured with the worker's
own pace, limit and breaker against a modelled service (tests/unit/modelled.py); a test measures it again.
"""

import math
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise
from typing import Final

from worker.policy.replicas import Feed, Minute, Replicas

STEP: Final = 5.0
DAY: Final = 86_400.0
HANDS: Final = 64
CALL: Final = 2.0
"""Seconds of a call, hence 32 requests per second and replica at most."""
CPU: Final = 0.001
"""Processor seconds of a request."""
REMEMBERED: Final = 300.0
"""Seconds without a refusal after which a pace is forgotten."""

REFUSED: Final = ((0, 0.0), (1, 41.0), (2, 82.0), (4, 152.0), (8, 237.0), (10, 289.0))
"""Calls that replicas with more to do than a quota of 100 per second have refused in a minute, by their number."""
JOINED: Final = 10.0
"""The same of a replica that joins them, until it has found its share."""
PROBES: Final = 7.8
"""Calls in a minute with which a replica probes a service that is away."""
USED: Final = 0.98
"""Share of the quota that replicas use who have to find it out."""

BURST: Final = (10 * 3600.0, 10 * 3600.0 + 1200.0)
OUTAGE: Final = (15 * 3600.0, 15 * 3600.0 + 1800.0)


@dataclass(frozen=True, slots=True)
class Scaler:
    """What the ScaledObject says, and the autoscaler's own defaults. Durations in seconds."""

    least: int = 2
    most: int = 10
    up_after: float = 30.0
    down_after: float = 300.0
    period: float = 60.0
    """In which replicas may double, or one may go."""
    poll: float = 15.0
    tolerance: float = 0.1
    start: float = 10.0
    """Until a new replica works."""


@dataclass
class Autoscaler:
    """The HorizontalPodAutoscaler's way from a metric to a number of replicas."""

    scaler: Scaler
    target: float
    wanted: int = 2
    _wishes: deque[tuple[float, int]] = field(default_factory=deque)
    _counts: deque[tuple[float, int]] = field(default_factory=deque)

    def decide(self, now: float, metric: float) -> int:
        """How many replicas there shall be."""
        scaler = self.scaler
        ratio = metric / self.target / self.wanted
        wish = self.wanted if abs(ratio - 1.0) <= scaler.tolerance else math.ceil(metric / self.target)
        self._wishes.append((now, wish))
        self._counts.append((now, self.wanted))
        while self._wishes[0][0] < now - scaler.down_after:
            self._wishes.popleft()
        while self._counts[0][0] <= now - scaler.period:
            self._counts.popleft()
        lately = [count for _, count in self._counts]
        highest = max(wish for _, wish in self._wishes)
        lowest = min(wish for at, wish in self._wishes if at >= now - scaler.up_after)
        steady = min(max(self.wanted, lowest), highest)
        bounded = max(min(steady, 2 * min(lately)), max(lately) - 1)
        self.wanted = max(scaler.least, min(scaler.most, bounded))
        return self.wanted


@dataclass
class Day:
    """What a day came to."""

    refused: float = 0.0
    replica_hours: float = 0.0
    most: int = 0
    handled: float = 0.0
    drained: dict[str, float] = field(default_factory=dict)
    """Seconds from the end of a burst or an outage until nothing was left waiting."""


@dataclass
class World:
    """The queue, the service and the replicas at one moment."""

    quota: float
    count: int = 2
    ready: float = 0.0
    is_away: bool = False
    throttled_at: float = -math.inf
    minute: deque[float] = field(default_factory=partial(deque, maxlen=round(60 / STEP)))
    """Requests handled in each step of the last minute, by all replicas together."""

    def step(self, now: float, arrived: float) -> tuple[float, float]:
        """Let a step pass; how many requests were handled, and how many calls refused."""
        self.ready += arrived
        if self.is_away:
            self.minute.append(0.0)
            return 0.0, PROBES * self.count * STEP / 60
        wanted = min(self.ready, self.count * HANDS / CALL * STEP)
        granted = min(wanted, self.quota * USED * STEP)
        self.ready -= granted
        self.minute.append(granted)
        if wanted <= granted:
            return granted, 0.0
        self.throttled_at = now
        return granted, refused_in_a_minute(self.count) * STEP / 60

    def useful(self, now: float) -> float:
        """What a replica tells, as the worker decides it."""
        calls = round(sum(self.minute) / self.count)
        borne = self.quota / self.count if now - self.throttled_at < REMEMBERED else None
        minute = Minute(60.0, calls, calls, calls * CALL, calls * CPU)
        feed = Feed(HANDS, self.is_away, borne, self.quota)
        return Replicas(self.count, round(self.ready), HANDS, minute, [feed]).useful


def refused_in_a_minute(count: int) -> float:
    """Between what was measured."""
    for (fewer, low), (more, high) in pairwise(REFUSED):
        if count <= more:
            return low + (high - low) * (count - fewer) / (more - fewer)
    return REFUSED[-1][1] * count / REFUSED[-1][0]


def load(rng: random.Random) -> Iterator[tuple[float, float]]:
    """Requests of each step: few at night, most in the afternoon, and a burst in the morning."""
    for number in range(round(DAY / STEP)):
        now = number * STEP
        rate = 30.0 - 20.0 * math.cos(2 * math.pi * (now / DAY - 0.1))
        if BURST[0] <= now < BURST[1]:
            rate += 150.0
        yield now, max(0.0, rng.gauss(rate * STEP, math.sqrt(rate * STEP)))


Metric = Callable[[World, float], float]


def queue_length(world: World, _: float) -> float:
    """Everybody's recipe: requests that wait."""
    return world.ready


def useful_replicas() -> Metric:
    """What the query of the ScaledObject asks for: the average of the last minute."""
    told: deque[float] = deque(maxlen=4)

    def metric(world: World, now: float) -> float:
        told.append(world.useful(now))
        return sum(told) / len(told)

    return metric


WAYS: Final[dict[str, tuple[Callable[[], Metric], float]]] = {
    "useful replicas (0.8 each)": (useful_replicas, 0.8),
    "queue length (100 each)": (lambda: queue_length, 100.0),
}


@cache
def lived(way: str, quota: float, seed: int = 1) -> Day:
    """A day scaled in one of the ways."""
    make, target = WAYS[way]
    metric, scaler, world, day = make(), Scaler(), World(quota), Day()
    autoscaler, coming = Autoscaler(scaler, target), deque[tuple[float, int]]()
    for now, arrived in load(random.Random(seed)):
        world.is_away = OUTAGE[0] <= now < OUTAGE[1]
        handled, refused = world.step(now, arrived)
        day.handled += handled
        day.refused += refused
        if now % scaler.poll == 0:
            wanted = autoscaler.decide(now, metric(world, now))
            coming.append((now + (scaler.start if wanted > world.count else 0.0), wanted))
        while coming and coming[0][0] <= now:
            joined = max(0, coming[0][1] - world.count)
            if now - world.throttled_at < STEP:
                day.refused += joined * JOINED
            world.count = coming.popleft()[1]
        day.replica_hours += world.count * STEP / 3600
        day.most = max(day.most, world.count)
        for name, (_, end) in (("burst", BURST), ("outage", OUTAGE)):
            if now >= end and name not in day.drained and world.ready < 1.0:
                day.drained[name] = now - end
    return day


def table(seed: int = 1) -> str:
    """Both ways, under a quota that is less than the burst, and under one that is no bound."""
    head = "| quota | scaled by | refused calls | replica hours | most | drained after burst | after outage |"
    rows = [head, "| --- | --- | --- | --- | --- | --- | --- |"]
    for quota in (100.0, 1000.0):
        for name in WAYS:
            day = lived(name, quota, seed)
            waits = " | ".join(f"{day.drained[what] / 60:.0f} min" for what in ("burst", "outage"))
            figures = f"{day.refused:,.0f} | {day.replica_hours:.1f} | {day.most} | {waits}"
            rows.append(f"| {quota:,.0f}/s | {name} | {figures} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")

"""A modelled service and modelled replicas in virtual time: what the policies amount to when they meet."""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from worker.policy.call_result import NamedLimit, TaskNotFound
from worker.policy.throttle.circuit_breaker import CircuitBreaker
from worker.policy.throttle.concurrency_limit import ConcurrencyLimit
from worker.policy.throttle.rate_limiter import RateLimiter

REFUSED_AFTER = 0.003
DEADLINE = 2.0


@dataclass(frozen=True, slots=True)
class Call:
    """One call: when it began, how it ended (`ok`, `429`, `down`, `timeout`) and how long it took."""

    at: float
    ending: str
    seconds: float


@dataclass
class Service:
    """Grants `quota` calls in any `window`; beyond `capacity` calls at once the latency of each grows in proportion."""

    quota: int | None = None
    window: float = 1.0
    latency: float = 0.05
    capacity: int = 0
    counts_refused: bool = False
    is_named: bool = True
    """Whether a refusal says which quota it is of."""
    refuses: float = 0.0
    """The share of calls that are refused whatever the quota."""
    is_down: bool = False
    noise: Callable[[random.Random], float] = lambda rng: rng.uniform(0.9, 1.2)
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    serving: int = 0
    granted: deque[float] = field(default_factory=deque)

    def call(self, now: float) -> tuple[str, float]:
        """How a call that begins now ends, and after how long."""
        if self.is_down:
            return "down", REFUSED_AFTER
        if self.rng.random() < self.refuses or (self.quota is not None and self._is_full(now, self.quota)):
            return "429", REFUSED_AFTER * self.rng.uniform(0.5, 2.0)
        self.serving += 1
        load = max(1.0, self.serving / self.capacity) if self.capacity else 1.0
        return "ok", self.latency * load * self.noise(self.rng)

    def _is_full(self, now: float, quota: int) -> bool:
        while self.granted and self.granted[0] <= now - self.window:
            self.granted.popleft()
        is_full = len(self.granted) >= quota
        if not is_full or self.counts_refused:
            self.granted.append(now)
        return is_full

    @property
    def throttle(self) -> NamedLimit | None:
        """What a refusal says."""
        return NamedLimit(self.quota, self.window) if self.is_named and self.quota is not None else None


class World:
    """Replicas that always have something to do, and the calls that they make."""

    def __init__(self, service: Service, replicas: int, *, ceiling: int = 64, seed: int = 0) -> None:
        self.service = service
        self.calls: list[Call] = []
        self.now = 0.0
        self.rng = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self.replicas = [Replica(self, ceiling) for _ in range(replicas)]
        for replica in self.replicas:
            self.at(self.rng.random() * 0.2, replica.move)

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Let something happen later."""
        self._number += 1
        heapq.heappush(self._events, (when, self._number, what))

    def run(self, until: float) -> "World":
        """Let time pass."""
        while self._events and self._events[0][0] < until:
            self.now, _, what = heapq.heappop(self._events)
            what()
        self.now = until
        return self

    def between(self, begin: float, end: float, ending: str | None = None) -> list[Call]:
        """The calls that began in a time, all or those that ended so."""
        return [call for call in self.calls if begin <= call.at < end and ending in (None, call.ending)]

    def used(self, begin: float, end: float, quota: float) -> float:
        """The share of a quota (calls per second) that was granted."""
        return len(self.between(begin, end, "ok")) / (end - begin) / quota

    def refused(self, begin: float, end: float) -> float:
        """The share of calls that were refused."""
        return len(self.between(begin, end, "429")) / max(1, len(self.between(begin, end)))


class Replica:
    """One replica's calls of the service. An open breaker is probed by a call that counts as one of these."""

    def __init__(self, world: World, ceiling: int) -> None:
        self.breaker, self.limit, self.limiter = CircuitBreaker(), ConcurrencyLimit(ceiling, DEADLINE), RateLimiter()
        self._world = world
        self._in_use = self._request = 0
        self._looks_at = 0.0

    def move(self) -> None:
        """Begin as many calls as may begin."""
        world = self._world
        while not self.breaker.is_blocking and self._in_use < self.limit.value:
            if (wait := self.limiter.wait(1, world.now)) > 0:
                if not world.now < self._looks_at <= world.now + wait:
                    self._looks_at = world.now + wait
                    world.at(self._looks_at, self.move)
                return
            self._begin()

    def _begin(self) -> None:
        world, begun = self._world, self._world.now
        self.limiter.take(1, begun)
        generation = self.breaker.generation
        self._in_use += 1
        self._request += 1
        request = self._request
        ending, seconds = self._call()
        world.at(begun + seconds, lambda: self._end(begun, generation, request, ending))

    def _call(self) -> tuple[str, float]:
        world = self._world
        ending, seconds = world.service.call(world.now)
        if seconds > DEADLINE:
            world.at(world.now + seconds, self._served)
            ending, seconds = "timeout", DEADLINE
        world.calls.append(Call(world.now, ending, seconds))
        return ending, seconds

    def _end(self, begun: float, generation: int, request: int, ending: str) -> None:
        world, service = self._world, self._world.service
        if ending == "429":
            if self.limiter.throttled(begun, world.now, service.throttle, None):
                self.limit.overloaded(begun, world.now)
        elif ending == "down":
            if self.breaker.failed(generation, request, world.now, world.rng.random()):
                self.limit.restart(world.now)
                world.at(self.breaker.probes.at, self._probe)
        elif ending == "timeout":
            self.limit.overloaded(begun, world.now)
        else:
            self.limit.answered(begun, world.now, self._in_use)
            self._served()
            self.limiter.granted()
            self.breaker.succeeded(generation)
        self._in_use -= 1
        self.move()

    def _probe(self) -> None:
        world = self._world
        ending, seconds = self._call()
        self.breaker.probes.schedule(world.now, world.rng.random())
        if ending == "ok":
            self._served()
            self.breaker.probe_ended(TaskNotFound(), world.now + seconds)
            world.at(world.now + seconds, self.move)
        else:
            world.at(self.breaker.probes.at, self._probe)

    def _served(self) -> None:
        self._world.service.serving -= 1

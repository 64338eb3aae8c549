"""The same worker under more: replicas, requests in flight, requests that wait, larger requests, a long run."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from tools.bench import load
from tools.bench.competitors import Competitor, Places, worker
from tools.bench.figures import Series, Step
from tools.bench.measure import MeasurementError, Running, Throughput, best, between, running, throughput
from tools.bench.plan import Plan
from tools.bench.queues import POLL
from tools.bench.servers import SlowService

LATENCY = 0.2
REPLICAS = (1, 2, 4)
IN_FLIGHT = (64, 256, 1_024)
SIZES = (1_000, 10_000, 60_000)
WARM = 1_000
LONG_RUN = 900.0

Say = Callable[[str], None]


@dataclass
class Scaling:
    """Measures series of this worker in one virtual host."""

    places: Places
    plan: Plan
    say: Say
    drift_mb: float | None = None
    """How far resident memory moved in the long run."""

    async def run(self) -> list[Series]:
        """All series, but those that failed."""
        found = []
        for series in (self.replicas, self.in_flight, self.backlog, self.sizes):
            try:
                found.append(await series())
            except MeasurementError as error:
                self.say(f"{series.__name__}: {error}")
        return found

    async def replicas(self) -> Series:
        """1, 2, 4 replicas in front of a service that takes its time: what one does is bound by what it holds."""
        steps = []
        async with SlowService(LATENCY) as slow:
            places = Places(self.places.amqp_url, slow.url)
            for number in REPLICAS:
                rate = number * load.IN_FLIGHT / LATENCY
                waiting = round(rate * (self.plan.seconds + 2))
                async with running(_worker(), places, waiting=waiting, replicas=number) as started:
                    found = await throughput(started, waiting, self.plan.seconds)
                steps.append(self._step(f"{number}", found))
        return Series(f"replicas, service takes {LATENCY * 1e3:.0f} ms", tuple(steps))

    async def in_flight(self) -> Series:
        """More requests held at once."""
        competitors = {f"{held:,}": _worker(WORKER_PREFETCH=str(held)) for held in IN_FLIGHT}
        steps = await self._rounds({label: (one, 0) for label, one in competitors.items()}, self.plan.series_rounds)
        return Series("requests in flight", steps, is_bound=True)

    async def sizes(self) -> Series:
        """Larger requests. Their fields are bound to 1,024 characters each; the rest is white space."""
        steps = await self._rounds({f"{size:,} bytes": (_worker(), size) for size in SIZES}, 1)
        return Series("size of a request", steps)

    async def backlog(self) -> Series:
        """More requests that wait: as many are published as are done, so that their number stays."""
        found: dict[int, list[Throughput]] = {waiting: [] for waiting in self.plan.backlogs}
        for number in range(self.plan.series_rounds):
            for waiting in self.plan.backlogs:
                is_long = self.plan.is_full and number == 0 and waiting == max(self.plan.backlogs)
                found[waiting].append(await self._level(waiting, is_long=is_long))
        steps = [self._step(f"{waiting:,}", best(rounds)) for waiting, rounds in found.items()]
        return Series("requests waiting", tuple(steps), is_bound=True)

    async def _level(self, waiting: int, *, is_long: bool) -> Throughput:
        async with running(_worker(), self.places, waiting=waiting) as started:
            enough = asyncio.Event()
            feeding = asyncio.create_task(_feed(started, waiting, enough))
            try:
                first = last = await started.reaches(WARM)
                while last.at < first.at + self.plan.seconds:
                    await asyncio.sleep(POLL)
                    last = await started.sample()
            finally:
                enough.set()
                await feeding
            if is_long:
                self.drift_mb = await self._drift(started, waiting)
            return between(first, last, last.rss_mb)

    async def _drift(self, started: Running, until: int) -> float:
        """The distance between the least and the most resident memory, once memories of bounded size are full."""
        found: list[float] = []
        end = time.monotonic() + LONG_RUN
        while (sample := await started.sample()).events < until:
            if time.monotonic() > end:
                raise MeasurementError(f"only {sample.events} of {until} requests were done in {LONG_RUN:g} s")
            if sample.events >= self.plan.flat_after:
                found.append(sample.rss_mb)
            await asyncio.sleep(1)
        return max(found) - min(found)

    async def _rounds(self, steps: dict[str, tuple[Competitor, int]], rounds: int) -> tuple[Step, ...]:
        found: dict[str, list[Throughput]] = {label: [] for label in steps}
        waiting = self.plan.requests // 2
        for _ in range(rounds):
            for label, (competitor, size) in steps.items():
                async with running(competitor, self.places, waiting=waiting, size=size) as started:
                    found[label].append(await throughput(started, waiting, self.plan.seconds))
        return tuple(self._step(label, best(costs)) for label, costs in found.items())

    def _step(self, label: str, found: Throughput) -> Step:
        self.say(f"{label}: {found.cpu_us:,.0f} µs, {found.per_second:,.0f}/s")
        return Step(label, found.cpu_us, found.per_second, found.rss_mb)


def _worker(**environment: str) -> Competitor:
    return worker("scaling", "this worker", **environment)


async def _feed(started: Running, waiting: int, enough: asyncio.Event) -> None:
    """Keep so many requests waiting, until it is enough. Not to be cancelled: aiormq would close the channel."""
    published = waiting
    while not enough.is_set():
        done = await started.queues.depth(load.EVENTS)
        await started.queues.fill(max(0, waiting + done - published))
        published = max(published, waiting + done)
        await asyncio.sleep(POLL)

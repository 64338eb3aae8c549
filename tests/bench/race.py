"""Everybody side by side: round after round, each in turn, so that a slow minute of the machine hits all."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence

from tests.bench.contestants import Contestant, Places
from tests.bench.figures import Entry
from tests.bench.measure import Latency, MeasurementError, Throughput, best, latency, running, throughput
from tests.bench.plan import RATE, Plan

Say = Callable[[str], None]


class Race:
    """What is found, contestant by contestant; `failed` says why somebody has no figures."""

    def __init__(
        self, contestants: Sequence[Contestant], places: Callable[[str], Places], plan: Plan, say: Say
    ) -> None:
        self._contestants = contestants
        self._places = places
        self._plan = plan
        self._say = say
        self.costs: dict[str, list[Throughput]] = defaultdict(list)
        self.times: dict[str, list[Latency]] = defaultdict(list)
        self.failed: dict[str, str] = {}

    async def run(self) -> list[Entry]:
        """Run all rounds; a contestant that fails is left out from then on."""
        for number in range(self._plan.rounds):
            for contestant in self._contestants:
                if contestant.name not in self.failed:
                    await self._turn(contestant, number)
        return [self._entry(one) for one in self._contestants if one.name not in self.failed]

    async def _turn(self, contestant: Contestant, number: int) -> None:
        plan, places = self._plan, self._places(contestant.name)
        waiting = plan.requests // 3 if contestant.is_slow else plan.requests
        try:
            async with running(contestant, places, waiting=waiting) as started:
                found = await throughput(started, waiting, plan.seconds)
                self.costs[contestant.name].append(found)
                if number < plan.paced_rounds:
                    timed = await latency(started, contestant, places, number=plan.paced, rate=RATE)
                    self.times[contestant.name].append(timed)
        except MeasurementError as error:
            self.failed[contestant.name] = str(error)
            self._say(f"{contestant.title}: {self.failed[contestant.name]}")
        else:
            self._say(f"round {number + 1}: {contestant.title}: {found.cpu_us:,.0f} µs, {found.per_second:,.0f}/s")

    def _entry(self, contestant: Contestant) -> Entry:
        cost, times = best(self.costs[contestant.name]), self.times[contestant.name]
        return Entry(
            contestant.name,
            contestant.title,
            cpu_us=cost.cpu_us,
            per_second=cost.per_second,
            rss_mb=cost.rss_mb,
            p50_ms=statistics.median(one.p50_ms for one in times),
            p99_ms=statistics.median(one.p99_ms for one in times),
        )

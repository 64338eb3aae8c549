"""Everybody side by side: round after round, each in turn, so that a slow minute of the machine hits all."""

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence

from tools.bench.competitors import Competitor, Places
from tools.bench.figures import Entry
from tools.bench.measure import Latency, MeasurementError, Throughput, best, latency, mean, running, throughput
from tools.bench.plan import RATE, Plan

YARDSTICK = "bare-python"
"""The competitor that ratios are taken of: the bare loop."""

Say = Callable[[str], None]


class Race:
    """What is found, competitor by competitor; `failed` says why somebody has no figures."""

    def __init__(
        self, competitors: Sequence[Competitor], places: Callable[[str], Places], plan: Plan, say: Say
    ) -> None:
        self._competitors = competitors
        self._places = places
        self._plan = plan
        self._say = say
        self.costs: dict[str, list[Throughput]] = defaultdict(list)
        self.times: dict[str, list[Latency]] = defaultdict(list)
        self.failed: dict[str, str] = {}

    async def run(self) -> list[Entry]:
        """Run all rounds; a competitor that fails is left out from then on.

        The yardstick runs before and after all others, and a round's figure is the mean of the two: a machine that
        becomes slower in the meantime then moves no ratio.
        """
        for number in range(self._plan.rounds):
            yardstick = [one for one in self._competitors if one.name == YARDSTICK]
            others = [one for one in self._competitors if one.name != YARDSTICK]
            for competitor in (*yardstick, *others, *yardstick):
                if competitor.name not in self.failed:
                    await self._turn(competitor, number)
            self._join_yardstick()
        return [self._entry(one) for one in self._competitors if one.name not in self.failed]

    def _join_yardstick(self) -> None:
        if YARDSTICK in self.costs and YARDSTICK not in self.failed:
            *earlier, before, after = self.costs[YARDSTICK]
            self.costs[YARDSTICK] = [*earlier, mean(before, after)]

    async def _turn(self, competitor: Competitor, number: int) -> None:
        plan, places = self._plan, self._places(competitor.name)
        waiting = plan.requests // 3 if competitor.is_slow else plan.requests
        try:
            async with running(competitor, places, waiting=waiting) as started:
                found = await throughput(started, waiting, plan.seconds)
                self.costs[competitor.name].append(found)
                if number < plan.paced_rounds:
                    timed = await latency(started, competitor, places, number=plan.paced, rate=RATE)
                    self.times[competitor.name].append(timed)
        except MeasurementError as error:
            self.failed[competitor.name] = str(error)
            self._say(f"{competitor.title}: {self.failed[competitor.name]}")
        else:
            self._say(f"round {number + 1}: {competitor.title}: {found.cpu_us:,.0f} µs, {found.per_second:,.0f}/s")

    def _entry(self, competitor: Competitor) -> Entry:
        cost, times = best(self.costs[competitor.name]), self.times[competitor.name]
        return Entry(
            competitor.name,
            competitor.title,
            cpu_us=cost.cpu_us,
            per_second=cost.per_second,
            rss_mb=cost.rss_mb,
            p50_ms=statistics.median(one.p50_ms for one in times),
            p99_ms=statistics.median(one.p99_ms for one in times),
        )

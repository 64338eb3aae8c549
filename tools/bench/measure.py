"""One competitor, measured: CPU, rate and memory over a full queue, then the time from publish to event.

Nothing is asked of the competitor: events that have arrived are counted at the broker, CPU time at the operating
system. Both are read when a tenth of the work is done and again at the end, so that its start counts for nobody.
"""

import asyncio
import os
import signal
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tools.bench import load, usage
from tools.bench.competitors import Competitor, Places, sending
from tools.bench.queues import POLL, Queues, open_queues
from worker.tools.servers import ChildProcesses

START_DEADLINE = 60.0
SEND_DEADLINE = 300.0
LAST_DEADLINE = 30.0
REST_DEADLINE = 60.0
REST_LOOK = 0.5
RESTING = 0.2
"""Cores that may be busy."""


class MeasurementError(Exception):
    """A competitor ended, or got nowhere; the text says what it said last."""


@dataclass(frozen=True)
class Throughput:
    """What a request cost under full load."""

    cpu_us: float
    per_second: float
    rss_mb: float
    requests: int


@dataclass(frozen=True)
class Latency:
    """Milliseconds from publish to event at low load."""

    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Sample:
    """One look at a running competitor."""

    at: float
    events: int
    cpu: float
    rss_mb: float


class Running:
    """Started competitors, all replicas of one, and the queues that they work on."""

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]], output: Path, queues: Queues) -> None:
        self._processes = processes
        self._output = output
        self._pids: list[int] = []
        self.queues = queues

    async def sample(self) -> Sample:
        """Look now. Raises MeasurementError if a process has ended."""
        events = await self.queues.depth(load.EVENTS)
        if any(process.poll() is not None for process in self._processes):
            raise MeasurementError(f"it ended by itself: {self.last_words()}")
        if not self._pids:
            return Sample(time.perf_counter(), events, 0.0, 0.0)
        return Sample(time.perf_counter(), events, usage.cpu_seconds(self._pids), usage.resident_mb(self._pids))

    async def reaches(self, events: int) -> Sample:
        """The first sample with so many events. Raises MeasurementError."""
        self._pids = []
        end = time.monotonic() + START_DEADLINE
        while (await self.sample()).events < events:
            if time.monotonic() > end:
                raise MeasurementError(f"it came no further than this: {self.last_words()}")
            await asyncio.sleep(POLL)
        self._pids = [pid for process in self._processes for pid in usage.tree(process.pid)]
        return await self.sample()

    def last_words(self) -> str:
        """The end of what it printed."""
        return self._output.read_text(errors="replace")[-1500:]


@contextmanager
def _spawned(competitor: Competitor, places: Places) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    with closing(ChildProcesses()) as lifeline:
        process = lifeline.spawn(competitor.command, places.environment(competitor))
        try:
            yield process, lifeline.folder / "output"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a session of its own: its children are of its group


@asynccontextmanager
async def running(
    competitor: Competitor, places: Places, *, waiting: int, size: int = 0, replicas: int = 1
) -> AsyncIterator[Running]:
    """The competitor, started on a queue of `waiting` requests of `size` bytes, and ended by force."""
    async with open_queues(places.amqp_url) as queues:
        await queues.renew(is_worker=competitor.is_worker, has_sender=competitor.sender is not None)
        if competitor.sender is None:
            await queues.fill(waiting, size)
        else:
            await send(competitor, places, waiting, 0)
        if (found := await queues.arrived(waiting)) < waiting:
            raise MeasurementError(f"only {found} of {waiting} requests came to their queue")
        await rest()
        with ExitStack() as stack:
            spawned = [stack.enter_context(_spawned(competitor, places)) for _ in range(replicas)]
            yield Running([process for process, _ in spawned], spawned[0][1], queues)


async def rest() -> None:
    """Wait until hardly anything runs: a broker that was sent much goes on writing it, and would slow everything."""
    end = time.monotonic() + REST_DEADLINE
    while time.monotonic() < end:
        before = usage.busy_seconds()
        await asyncio.sleep(REST_LOOK)
        if usage.busy_seconds() - before < REST_LOOK * RESTING:
            return


async def throughput(running: Running, waiting: int, seconds: float) -> Throughput:
    """Measure until everything is done, for `seconds` at most."""
    first = last = await running.reaches(max(1, waiting // 10))
    peak = first.rss_mb
    while last.events < waiting and last.at < first.at + seconds:
        await asyncio.sleep(POLL)
        last = await running.sample()
        peak = max(peak, last.rss_mb)
    return between(first, last, peak)


def between(first: Sample, last: Sample, rss_mb: float) -> Throughput:
    """What the requests cost whose events came between two samples."""
    done = last.events - first.events
    if done <= 0:
        raise MeasurementError("nothing was done between two looks: there are too few requests")
    return Throughput((last.cpu - first.cpu) / done * 1e6, done / (last.at - first.at), rss_mb, done)


async def latency(running: Running, competitor: Competitor, places: Places, *, number: int, rate: float) -> Latency:
    """Measure the time from publish to event of `number` requests, `rate` in a second, with nothing else to do."""
    await running.queues.purge()
    ages: list[float] = []
    async with running.queues.read(lambda body: ages.append(load.age(body))):
        if competitor.sender is None:
            for _ in range(number):
                await running.queues.publish()
                await asyncio.sleep(1 / rate)
        else:
            await send(competitor, places, number, rate)
        end = time.monotonic() + LAST_DEADLINE
        while len(ages) < number:
            if time.monotonic() > end:
                raise MeasurementError(f"only {len(ages)} of {number} paced requests had events")
            await asyncio.sleep(POLL)
    return Latency(percentile(ages, 50) * 1e3, percentile(ages, 99) * 1e3)


def best(found: Sequence[Throughput]) -> Throughput:
    """The least disturbed of several rounds: what else a machine does can only add to what a request costs."""
    return Throughput(
        min(one.cpu_us for one in found),
        max(one.per_second for one in found),
        statistics.median(one.rss_mb for one in found),
        sum(one.requests for one in found),
    )


def mean(before: Throughput, after: Throughput) -> Throughput:
    """The mean of two measurements of one round."""
    return Throughput(
        (before.cpu_us + after.cpu_us) / 2,
        (before.per_second + after.per_second) / 2,
        max(before.rss_mb, after.rss_mb),
        before.requests + after.requests,
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


async def send(competitor: Competitor, places: Places, number: int, rate: float) -> None:
    """Let the competitor's own sender publish. Raises MeasurementError."""
    process = sending(competitor, places, number, rate)
    try:
        said, _ = await asyncio.to_thread(process.communicate, timeout=SEND_DEADLINE)
        if process.returncode:
            raise MeasurementError(f"the sender of {competitor.name} failed: {said.decode(errors='replace')[-1500:]}")
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"the sender of {competitor.name} took longer than {SEND_DEADLINE:g} s") from None
    finally:
        process.kill()
        process.wait()

"""What a request costs in counts that no clock knows: calls, frames, bytes, memory kept.

`.venv/bin/python -m tools.bench.cost` renews what `tests/live/test_cost.py` expects.
"""

import asyncio
import json
import platform
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.fakes.servers import RabbitMqServer
from tools.bench.competitors import Competitor, Places, worker
from tools.bench.meter import metered_broker, metered_service
from tools.bench.queues import POLL, Queues, open_queues

EXPECTED = Path(__file__).parents[2] / "tests" / "live" / "cost.json"
WARM, REQUESTS = 400, 500
DEADLINE = 60.0
WAYS = {"one at a time": 1, "64 in flight": 64}
LATENCY = {1: 0.0, 64: 0.2}
"""Seconds that a call takes. With many in flight so many that a busy machine adds nothing to speak of: else the worker
would make fewer calls at once, and requests that wait for others cost more."""
TOLERANCES = {"calls": 0.03, "blocks kept": 0.4, "amqp received frames": 0.2, "amqp received bytes": 0.1}
"""By how much a count may differ from what was found before, as a fraction; what the broker says depends on time."""
BATCHED = 0.08
"""The tolerance of calls where many requests are in flight: how many frames come in one piece depends on time."""
TOLERANCE = 0.02
USUAL = 0.5
"""Calls per request above which a function belongs to the way of each request."""
UNCOUNTED = ("http connections", "amqp sent acks", "amqp received acks")
"""Connections are few, and acknowledgements are among the frames."""
RENEW = ".venv/bin/python -m tools.bench.cost"


@dataclass(frozen=True)
class Cost:
    """What one request cost, by kind, and how often it called which function."""

    counts: dict[str, float]
    calls: dict[str, float]

    def own_files(self) -> list[str]:
        """The files of this project whose functions a request calls."""
        files = {name.partition(":")[0] for name, calls in self.calls.items() if calls > USUAL}
        return sorted(file for file in files if file.startswith(("worker/", "schemas/")))

    def most_called(self, number: int = 15) -> str:
        """The functions that a request calls most, a line each."""
        ordered = sorted(self.calls.items(), key=lambda item: -item[1])
        return "\n".join(f"{calls:8.2f}  {name}" for name, calls in ordered[:number])


def python_minor() -> str:
    """Which Python counts."""
    return ".".join(platform.python_version_tuple()[:2])


def deviations(
    found: Mapping[str, float], expected: Mapping[str, float], *, is_same_python: bool = True, is_batched: bool = False
) -> list[str]:
    """Every count that differs from what is expected, in words.

    Another Python may do with fewer calls than the one that was counted with. But otherwise too few are as wrong as
    too many: what is expected would hold nothing any more.
    """
    if found.keys() != expected.keys():
        return [f"other things are counted than {', '.join(expected)}"]
    wrong = []
    for name, count in found.items():
        tolerance = BATCHED if is_batched and name == "calls" else TOLERANCES.get(name, TOLERANCE)
        low, high = expected[name] * (1 - tolerance), expected[name] * (1 + tolerance)
        if count > high or (count < low and is_same_python):
            wrong.append(f"{name}: {count:g} per request, expected {low:.5g} to {high:.5g}")
    return wrong


async def cost(amqp_url: str, in_flight: int, folder: Path) -> Cost:
    """Count over REQUESTS requests, after WARM others."""
    wires: Counter[str] = Counter()
    told = folder / f"counted-{in_flight}"
    async with (
        open_queues(amqp_url) as queues,
        metered_service(wires, LATENCY[in_flight]) as service,
        metered_broker(amqp_url, wires) as broker,
    ):
        await queues.renew(is_worker=True, has_sender=False)
        competitor = worker("counted", "", WORKER_PREFETCH=str(in_flight))
        async with _counting(competitor, Places(broker, service), told) as process:
            await _done(queues, process, WARM, wires)
            before = await _told(process, told, 1)
            wires.clear()
            await _done(queues, process, REQUESTS, wires)
            found = dict(wires)
            after = await _told(process, told, 2)
    calls = {name: (count - before["calls"].get(name, 0)) / REQUESTS for name, count in after["calls"].items()}
    counts = {name: count / REQUESTS for name, count in found.items() if name not in UNCOUNTED}
    counts |= {"calls": sum(calls.values()), "blocks kept": (after["blocks"] - before["blocks"]) / REQUESTS}
    return Cost({name: round(count, 3) for name, count in sorted(counts.items())}, calls)


@asynccontextmanager
async def _counting(competitor: Competitor, places: Places, told: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.bench.counted_worker", str(told)],
        env=places.environment(competitor),
        stdin=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def _done(queues: Queues, process: subprocess.Popen[bytes], number: int, wires: Counter[str]) -> None:
    """Publish so many requests, and return when they are acknowledged, which is the last thing that is done for one."""
    await queues.fill(number)
    async with asyncio.timeout(DEADLINE):
        while wires["amqp sent acks"] < number:
            assert process.poll() is None, "the worker has ended by itself"
            await asyncio.sleep(POLL)


async def _told(process: subprocess.Popen[bytes], told: Path, line: int) -> dict[str, Any]:
    """What the worker counts now, in the line of this number of the file."""
    process.send_signal(signal.SIGUSR1)
    async with asyncio.timeout(DEADLINE):
        while not told.exists() or told.read_text().count("\n") < line:
            await asyncio.sleep(POLL)
    found: dict[str, Any] = json.loads(told.read_text().splitlines()[-1])
    return found


async def _renew() -> None:
    async with RabbitMqServer() as node:
        with TemporaryDirectory() as folder:
            found = {way: await cost(node.url, in_flight, Path(folder)) for way, in_flight in WAYS.items()}
    for way, one in found.items():
        sys.stdout.write(f"{way}: {one.counts}\n{one.most_called()}\n")
    kept = {
        "renewed by": RENEW,
        "python": python_minor(),
        "expected": {way: one.counts for way, one in found.items()},
    }
    EXPECTED.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(_renew())

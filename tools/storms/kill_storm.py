"""Storm: workers and broker are killed at random moments while the fake DCS injects every fault.

Short form: tests/live/test_exactly_once.py. Long form: `make storm`, or
`python -m tools.storms.kill_storm --requests 1000 --kills 40 --broker-kills 3 --seed 7`.
"""

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.faulty_dcs import FaultyDcs
from tests.fakes.servers import RabbitMqServer
from tools.harness.running_system import RunningSystem, WorkerProcess, request

FAULTS = {
    "create then drop": 0.04,
    "drop": 0.02,
    "create then hang": 0.02,
    "hang": 0.01,
    "create late 2.5": 0.02,
    "create then error 500 DCS.5000": 0.03,
    "error 500 DCS.5000": 0.02,
    "create then html": 0.01,
    "create then no id": 0.01,
    "error 400 DCS.4026": 0.05,
    "throttle 5/second": 0.02,
}
LISTED_AFTER = 1.0
DELAYS = (1, 2, 5, 8)
"""Seconds until a created task is listed: well within WORKER_SETTLE of the end of the call's deadline."""


@dataclass(frozen=True, slots=True)
class Storm:
    """Parameters of the storm."""

    requests: int = 150
    kills: int = 8
    broker_kills: int = 1
    seed: int = 0
    seconds: float = 120.0


async def run(storm: Storm, node: RabbitMqServer, folder: Path) -> str:
    """Run the storm, return a summary. AssertionError if a request has not exactly one task and one kind of event."""
    random_unit = random.Random(storm.seed)
    fake_dcs = FaultyDcs(seed=storm.seed, faults=FAULTS, visibility=LISTED_AFTER, latency=0.05)
    started = time.monotonic()
    async with RunningSystem(node.url, folder, fake_dcs) as system:
        workers = [_worker(system) for _ in range(2)]
        for worker in workers:
            await worker.ready()
        await asyncio.sleep(1.0)  # RabbitMQ 3.10 may lose a quorum queue declared within the last half second
        task_names = [f"storm-{number}" for number in range(storm.requests)]
        publishing = asyncio.create_task(_publish(system, task_names, random_unit))
        await _strike(storm, system, node, workers, random_unit)
        await publishing
        events = await system.answered(storm.requests, storm.seconds)
        async with asyncio.timeout(30):
            while not await system.all_empty(DELAYS):
                await asyncio.sleep(0.2)
        system.assert_one_task_each(task_names)
        kinds = Counter(answers[0].body.get("resolution") or answers[0].body["reason"] for answers in events.values())
        copies = sum(len(answers) - 1 for answers in events.values())
        return (
            f"seed {storm.seed}: {storm.requests} requests, {storm.kills} workers and {storm.broker_kills} times the "
            f"broker killed, {len(fake_dcs.tasks)} tasks, {dict(kinds)}, {copies} events repeated, "
            f"{time.monotonic() - started:.0f} s"
        )


def _worker(system: RunningSystem) -> WorkerProcess:
    return system.worker(WORKER_PREFETCH=16, WORKER_RETRY_DELAYS=",".join(map(str, DELAYS)), WORKER_LOG_LEVEL="warning")


async def _publish(system: RunningSystem, task_names: list[str], random_unit: random.Random) -> None:
    for name in task_names:
        await system.publish(request(name, request_id=name))
        await asyncio.sleep(random_unit.random() * 0.02)


async def _strike(
    storm: Storm, system: RunningSystem, node: RabbitMqServer, workers: list[WorkerProcess], random_unit: random.Random
) -> None:
    strikes = ["worker"] * storm.kills + ["broker"] * storm.broker_kills
    random_unit.shuffle(strikes)
    for strike in strikes:
        await asyncio.sleep(0.2 + random_unit.random())
        if strike == "broker":
            await asyncio.to_thread(node.kill)
            await asyncio.to_thread(node.restart)
            continue
        number = random_unit.randrange(len(workers))
        workers[number].process.kill()
        workers[number].process.wait()
        workers[number] = _worker(system)


def main() -> None:
    """Run a storm from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--broker-kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    options = parser.parse_args()
    storm = Storm(options.requests, options.kills, options.broker_kills, options.seed, 600.0)
    sys.stdout.write(f"{storm}\n")
    logging.disable(logging.CRITICAL)  # aio-pika logs every connection that the storm breaks
    with RabbitMqServer() as node, tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(asyncio.run(run(storm, node, Path(folder))) + "\n")


if __name__ == "__main__":
    main()

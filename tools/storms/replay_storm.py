"""Storm: `parked replay --yes` is killed with SIGKILL repeatedly; no request is lost, no task is created twice.

Short form: tests/live/test_parked_replay.py. Long form: `make replay-storm`, or
`python -m tools.storms.replay_storm --requests 500 --kills 20 --seed 7`.
"""

import argparse
import asyncio
import logging
import random
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.servers import RabbitMqServer
from tools.harness.parked_queue import PARKED, CommandLine, park, parked_headers, settings
from tools.harness.running_system import RunningSystem, machine_load_factor, request, until

RATE = 60
"""Messages a second, so that a replay lasts longer than it is let live."""

SENDING = 0.7
"""Share of the replays that are killed after they have started to send; the others are killed while they read."""


@dataclass(frozen=True, slots=True)
class ReplayStorm:
    """Parameters of the storm."""

    requests: int = 100
    kills: int = 5
    seed: int = 0
    seconds: float = 60.0


async def run(storm: ReplayStorm, amqp_url: str, folder: Path) -> str:
    """Run the storm, return a summary. AssertionError if a request is lost, or has not exactly one task."""
    random_unit, started = random.Random(storm.seed), time.monotonic()
    ids = [f"kill-{number}" for number in range(storm.requests)]
    async with RunningSystem(amqp_url, folder) as system:
        await system.worker().ready()
        async with await system._connection.channel() as channel:
            await park(channel, *(request(one, one) for one in ids), headers=parked_headers())
        command_line = CommandLine(settings(system.amqp_url, folder, system.fake_dcs.url), folder)
        kills, left = 0, storm.requests
        while kills < storm.kills and left:
            kills += await _killed(command_line, system, left, random_unit, storm)
            left = await _returned(system)
        last = await command_line.run("parked", "replay", "--all", "--yes")
        assert (kills, last.status) == (storm.kills, 0), f"{kills} kills, {left} left, {last.errors}"
        assert await system.depth(PARKED) == 0
        await system.answered(storm.requests, storm.seconds)
        await until(lambda: system.workers[0].metric("dcs_worker_in_flight_requests") == 0, 20)
        assert sorted(task.name for task in system.fake_dcs.tasks) == sorted(ids)
        return (
            f"seed {storm.seed}: {storm.requests} parked, {kills} replays killed, {left} left for the last one, "
            f"{len(system.fake_dcs.tasks)} tasks, {len(system.events) - storm.requests} events repeated, "
            f"{time.monotonic() - started:.0f} s"
        )


async def _killed(
    command_line: CommandLine, system: RunningSystem, left: int, random_unit: random.Random, storm: ReplayStorm
) -> bool:
    """Start a replay and kill it at some moment while it reads or sends; whether it was still alive."""
    process = await command_line.start(
        "parked", "replay", "--all", "--yes", "--canary", "0", "--rate", f"{RATE / machine_load_factor():.2f}"
    )
    async with asyncio.timeout(30):
        while await system.depth(PARKED) >= left:  # until the command holds what is parked
            await asyncio.sleep(0.02)
        if random_unit.random() < SENDING:
            events_before = len(system.events)
            while len(system.events) == events_before and process.returncode is None:
                await asyncio.sleep(0.02)
    # All replays together must not come to the end before the last of them is killed.
    await asyncio.sleep(random_unit.uniform(0, 0.6 * storm.requests / RATE / storm.kills))
    with suppress(ProcessLookupError):  # it may have ended in this moment
        process.kill()
    await process.communicate()
    return process.returncode == -signal.SIGKILL


async def _returned(system: RunningSystem) -> int:
    """Number of parked messages after a command was killed."""
    seen = -1
    async with asyncio.timeout(20):
        while (now := await system.depth(PARKED)) != seen:
            seen = now
            await asyncio.sleep(0.3)
    return seen


def main() -> None:
    """Run the storm from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    options = parser.parse_args()
    storm = ReplayStorm(options.requests, options.kills, options.seed, 120.0)
    sys.stdout.write(f"{storm}\n")
    logging.disable(logging.CRITICAL)  # aio-pika tells of every connection that is broken off
    with RabbitMqServer() as node, tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(asyncio.run(run(storm, node.url, Path(folder))) + "\n")


if __name__ == "__main__":
    main()

"""`make bench`: measure, print the tables, keep them as JSON and as a picture."""

import argparse
import asyncio
import json
import os
import platform
import resource
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.fakes.servers import RabbitMqServer, RedisServer
from tools.bench import picture, readme, text
from tools.bench.competitors import Competitor, Places, built_go_loop, ours, peers
from tools.bench.figures import Entry, Series, Target, targets
from tools.bench.plan import FULL, QUICK, Plan
from tools.bench.queues import make_vhosts
from tools.bench.race import Race
from tools.bench.scaling import Scaling
from tools.bench.servers import Nginx, make_old, service_seconds
from worker.tools.servers import ServerFailedError, ServerUnavailableError

RESULTS = readme.RESULTS


def say(words: str) -> None:
    """Print."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def main() -> int:
    """Measure as the command line says; 0 even if a target is missed, 69 if a server cannot be had."""
    asked = _arguments()
    plan = QUICK if asked.quick else FULL
    plan = replace(plan, rounds=asked.rounds or plan.rounds)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # 1,024 in flight are more connections than usual
    try:
        asyncio.run(_measure(plan, asked.only, asked.part))
    except (ServerUnavailableError, ServerFailedError) as error:
        say(str(error))
        return 69
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything: under four minutes")
    parser.add_argument("--only", default="", help="names of competitors, with commas; nothing is kept then")
    parser.add_argument("--rounds", type=int, help="how often everybody has its turn")
    parser.add_argument("--part", choices=("race", "scaling"), help="a part alone; nothing is kept then")
    return parser.parse_args()


async def _measure(plan: Plan, only: str, part: str | None) -> None:
    with ExitStack() as stack:
        node = stack.enter_context(RabbitMqServer())
        nginx = stack.enter_context(Nginx())
        redis = stack.enter_context(RedisServer())
        make_old(redis)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        competitors, missing = _competitors(redis.url, only)
        make_vhosts(node, {one.name: one.is_quorum_by_default for one in competitors} | {"scaling": False}, folder)

        def places(name: str) -> Places:
            return Places(node.vhost_url(name), nginx.url)

        service_ms = await asyncio.to_thread(service_seconds, nginx.url) * 1e3
        race = Race(competitors, places, plan, say)
        scaling = Scaling(places("scaling"), plan, say)
        entries = await race.run() if part != "scaling" else []
        series = await scaling.run() if part != "race" and not only else []
        found = targets(entries, series, service_ms=service_ms, drift_mb=scaling.drift_mb)
        _print(entries, series, found, missing | race.failed)
        if not only and part is None:
            machine = _machine(node)
            _keep(_document(plan, machine, service_ms, race, entries, series, found, missing), entries, machine, plan)


def _competitors(redis_url: str, only: str) -> tuple[list[Competitor], dict[str, str]]:
    go_loop, why = built_go_loop()
    everybody = ours(redis_url) + peers(go_loop)
    missing = {"bare-go": f"the bare loop in Go is left out: {why}"} if go_loop is None else {}
    for reason in missing.values():
        say(reason)
    wanted = only.split(",") if only else [one.name for one in everybody]
    return [one for one in everybody if one.name in wanted], missing


def _print(entries: list[Entry], series: list[Series], found: list[Target], missing: dict[str, str]) -> None:
    blocks = [text.competitors(entries)] if entries else []
    blocks += [text.growth(one) for one in series]
    blocks += [text.promises(found), *missing.values()]
    say("\n" + "\n\n".join(blocks))


def _machine(node: RabbitMqServer) -> dict[str, Any]:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "processor": model[0].partition(":")[2].strip() if model else platform.machine(),
        "python": platform.python_version(),
        "rabbitmq": node.run_ctl("version").strip(),
        "aio-pika": version("aio-pika"),
    }


def _document(
    plan: Plan,
    machine: dict[str, Any],
    service_ms: float,
    race: Race,
    entries: list[Entry],
    series: list[Series],
    found: list[Target],
    missing: dict[str, str],
) -> dict[str, Any]:
    rounds = {name: [asdict(one) for one in costs] for name, costs in race.costs.items()}
    return {
        "is_full": plan.is_full,
        "machine": machine,
        "service_ms": round(service_ms, 2),
        "contestants": [_rounded(asdict(entry) | {"rounds": rounds[entry.name]}) for entry in entries],
        "left_out": missing | race.failed,
        "series": [_rounded(asdict(one)) for one in series],
        "targets": [_rounded(asdict(target) | {"is_met": target.is_met}) for target in found],
    }


def _rounded(found: Any) -> Any:
    """The same with every fraction rounded: digits that the next run changes say nothing."""
    match found:
        case float():
            return round(found, 2)
        case dict():
            return {name: _rounded(value) for name, value in found.items()}
        case list() | tuple():
            return [_rounded(value) for value in found]
        case _:
            return found


def _keep(document: dict[str, Any], entries: list[Entry], machine: dict[str, Any], plan: Plan) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "bench.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    kind = f"best of {plan.rounds} rounds"
    subtitle = f"64 in flight, quorum queue, confirmed events; {machine['cores']} cores, {kind}"
    (RESULTS / "bench.svg").write_text(picture.picture(entries, subtitle))
    readme.renew()
    say(f"\nkept in {RESULTS.relative_to(Path.cwd()) if RESULTS.is_relative_to(Path.cwd()) else RESULTS}")


if __name__ == "__main__":
    sys.exit(main())

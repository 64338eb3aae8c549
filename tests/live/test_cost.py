"""What a request costs in calls, frames, bytes and memory: a guard against growing dearer that needs no clock.

After a change that was meant to change it: `.venv/bin/python -m tools.bench.cost` writes `cost.json` anew.
"""

import json
import sys
from pathlib import Path

import pytest

from tools.bench.cost import EXPECTED, RENEW, WAYS, Cost, cost, deviations, python_minor

MAX_FILES = 38
"""Files whose functions one happy delivery runs: so many a reader opens to follow it."""
KEPT = json.loads(EXPECTED.read_text())
ONE_AT_A_TIME = next(way for way, in_flight in WAYS.items() if in_flight == 1)


@pytest.fixture(scope="module")
def counted() -> dict[str, Cost]:
    """What was counted in this file so far, by way: counting takes some seconds."""
    return {}


@pytest.mark.parametrize("way", WAYS)
async def test_cost_of_request_is_within_bounds(way: str, counted: dict[str, Cost], vhost: str, tmp_path: Path) -> None:
    """A request costs as many calls, frames, bytes and blocks of memory as before, within the tolerances."""
    found = counted[way] = await cost(vhost, WAYS[way], tmp_path)
    is_same_python = KEPT["python"] == python_minor()
    expected, is_batched = KEPT["expected"][way], WAYS[way] > 1
    wrong = deviations(found.counts, expected, is_same_python=is_same_python, is_batched=is_batched)
    assert not wrong, "\n".join([*wrong, f"If that is meant: {RENEW}", "Most called:", found.most_called()])


async def test_happy_delivery_runs_functions_of_few_files(counted: dict[str, Cost], vhost: str, tmp_path: Path) -> None:
    """From received to acknowledged; the files are printed."""
    found = counted.get(ONE_AT_A_TIME) or await cost(vhost, 1, tmp_path)
    files = found.own_files()
    sys.stdout.write("\n".join((f"A happy delivery runs functions of {len(files)} files:", *files, "")))
    assert len(files) <= MAX_FILES, files

"""What a request costs in calls, frames, bytes and memory: a guard against growing dearer that needs no clock.

After a change that was meant to change it: `.venv/bin/python -m tools.bench.cost` writes `cost.json` anew.
"""

import json
import sys
from pathlib import Path

import pytest

from tools.bench.cost import EXPECTED, RENEW, WAYS, cost, deviations, python_minor

MAX_FILES = 38
"""Files whose functions one happy delivery runs: so many a reader opens to follow it."""
KEPT = json.loads(EXPECTED.read_text())


@pytest.mark.parametrize("way", WAYS)
async def test_cost_of_request_is_within_bounds(way: str, vhost: str, tmp_path: Path) -> None:
    """A request costs as many calls, frames, bytes and blocks of memory as before, within the tolerances."""
    found = await cost(vhost, WAYS[way], tmp_path)
    is_same_python = KEPT["python"] == python_minor()
    expected, is_batched = KEPT["expected"][way], WAYS[way] > 1
    wrong = deviations(found.counts, expected, is_same_python=is_same_python, is_batched=is_batched)
    assert not wrong, "\n".join([*wrong, f"If that is meant: {RENEW}", "Most called:", found.most_called()])


async def test_happy_delivery_runs_functions_of_few_files(vhost: str, tmp_path: Path) -> None:
    """From received to acknowledged; the files are printed."""
    files = (await cost(vhost, 1, tmp_path)).own_files()
    sys.stdout.write("\n".join((f"A happy delivery runs functions of {len(files)} files:", *files, "")))
    assert len(files) <= MAX_FILES, files

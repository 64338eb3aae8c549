"""What a request costs in calls, frames, bytes and memory: a guard against growing dearer that needs no clock.

After a change that was meant to change it: `.venv/bin/python -m tools.bench.cost` writes `cost.json` anew.
"""

import json
from pathlib import Path

import pytest

from tools.bench.cost import EXPECTED, RENEW, WAYS, cost, deviations, python_minor

KEPT = json.loads(EXPECTED.read_text())


@pytest.mark.parametrize("way", WAYS)
async def test_cost_of_request_is_within_bounds(way: str, vhost: str, tmp_path: Path) -> None:
    """A request costs as many calls, frames, bytes and blocks of memory as before, within the tolerances."""
    found = await cost(vhost, WAYS[way], tmp_path)
    is_same_python = KEPT["python"] == python_minor()
    expected, is_batched = KEPT["expected"][way], WAYS[way] > 1
    wrong = deviations(found.counts, expected, is_same_python=is_same_python, is_batched=is_batched)
    assert not wrong, "\n".join([*wrong, f"If that is meant: {RENEW}", "Most called:", found.most_called()])

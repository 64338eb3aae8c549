"""The AsyncAPI document is sound by the official parser, which comes from the npm registry."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schemas.asyncapi import FILE, document
from schemas.generate import render
from tools.harness.npm_packages import installed

TOOLS = Path(__file__).parents[2] / "tools" / "asyncapi"
NPM = shutil.which("npm")
needs_npm = pytest.mark.skipif(NPM is None, reason="no npm, which the official parser comes by: apt-get install npm")

BROKEN = (  # where, with what, and what must be complained of
    (("operations", "sendFailed", "action"), "publish", "operations/sendFailed/action"),
    (("operations", "sendFailed", "channel", "$ref"), "#/channels/nowhere", "nowhere"),
    (("channels", "failed", "bindings", "amqp", "is"), "topic", "bindings/amqp/is"),
    (("components", "schemas", "Task", "type"), "thing", "type"),
)


@pytest.fixture(scope="session")
def parser() -> Path:
    """A folder outside of the tree with the official parser as locked."""
    return installed(TOOLS)


@pytest.fixture(scope="session")
def verdicts(parser: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[str]]]:
    """What the official parser makes of the committed document, and of each that is broken in one place."""
    files = [FILE]
    for number, (path, value, _) in enumerate(BROKEN):
        broken = document()
        place: Any = broken
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        files.append(tmp_path_factory.getbasetemp() / f"broken-{number}.json")
        files[-1].write_text(render(broken))
    command = ["node", "check.mjs", *map(str, files)]
    done = subprocess.run(command, cwd=parser, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answer: list[dict[str, list[str]]] = json.loads(done.stdout)
    return answer


@needs_npm
@pytest.mark.timeout(400)
def test_the_official_parser_finds_nothing_wrong(verdicts: list[dict[str, list[str]]]) -> None:
    """The committed document is sound AsyncAPI 3.0, and all of its operations are understood."""
    assert verdicts[0] == {"operations": list(document()["operations"]), "wrong": []}


@needs_npm
@pytest.mark.timeout(400)
@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_the_official_parser_rejects_broken_documents(verdicts: list[dict[str, list[str]]], number: int) -> None:
    """A document that is wrong in one place is refused."""
    wrong = verdicts[number + 1]["wrong"]
    assert any(BROKEN[number][2] in one for one in wrong), wrong

"""The house: a module imports from lower floors and its own room, and the outside world has one door each."""

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path.read_text()
    for tree in ("schemas", "worker")
    for path in sorted((ROOT / tree).rglob("*.py"))
}
ROOMS = ("flow", "rabbit", "dcs", "claims", "observe", "web", "tools", "config")
FLOORS = {
    "schemas": 0,
    "worker": 0,  # the bare package
    "worker.policy": 1,
    **{f"worker.{room}": 2 for room in ROOMS},
    "worker.bootstrap": 3,
    "worker.cli": 4,
    "worker.__main__": 5,
}
DOORS = {  # what only these rooms may import or touch
    "aio_pika": {"worker.rabbit", "worker.tools"},
    "aiormq": {"worker.rabbit", "worker.tools"},
    "pamqp": {"worker.rabbit", "worker.tools"},
    "aiohttp": {"worker.rabbit", "worker.tools", "worker.web"},
    "aiohttp.web": {"worker.web", "worker.tools"},
    "httpx2": {"worker.dcs", "worker.rabbit"},
    "httpcore2": {"worker.dcs"},
    "redis": {"worker.claims"},
    "prometheus_client": {"worker.observe"},
    "opentelemetry": {"worker.observe"},
    "os.environ": {"worker.config", "worker.tools"},
    "os.environb": {"worker.config", "worker.tools"},
    "os.getenv": {"worker.config", "worker.tools"},
}
LIBRARIES = {"schemas": {"pydantic", "pydantic_core"}, "worker.policy": set[str]()}  # and of the standard library:
IMPURE = {"asyncio", "os", "random", "secrets", "socket", "subprocess", "threading", "time"}  # not these


def room(name: str) -> str:
    """The room of a module or of what is imported from it: `worker.dcs` of `worker.dcs.client.Client`."""
    first, *rest = name.split(".")
    inner = f"{first}.{rest[0]}" if rest else first
    return inner if inner in FLOORS else first


def imports(source: str) -> Iterator[str]:
    """The dotted name of everything that a module imports, at any depth of its code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def reached(source: str) -> Iterator[str]:
    """Every `name.attribute` in a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def is_open(here: str, name: str) -> bool:
    """Whether the room `here` may import `name`."""
    first = name.partition(".")[0]
    if not first:  # relative: nobody sees at a glance which room it comes from
        return False
    if first in ("schemas", "worker"):
        return room(name) == here or FLOORS[room(name)] < FLOORS[here]
    if here in LIBRARIES and first not in LIBRARIES[here]:
        return first in sys.stdlib_module_names - IMPURE
    return True


def breaches(module: str, source: str) -> set[str]:
    """What a module imports or touches though its room may not."""
    here, imported = room(module), set(imports(source))
    doors = {
        name for name in imported for door in DOORS if f"{name}.".startswith(f"{door}.") and here not in DOORS[door]
    }
    touched = {name for name in reached(source) if here not in DOORS.get(name, {here})}
    return {name for name in imported if not is_open(here, name)} | doors | touched


def cycle(sources: dict[str, str]) -> list[str]:
    """The modules of one import cycle, empty when there is none; imports inside functions count."""
    graph = {
        module: {
            target
            for name in imports(source)
            for target in [name if name in sources else name.rpartition(".")[0]]
            if target in sources and target != module
        }
        for module, source in sources.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [str(module) for module in error.args[1]]
    return []


@pytest.mark.parametrize("module", SOURCES)
def test_module_keeps_the_import_law(module: str) -> None:
    """A module stands in a known room and imports only what that room may."""
    assert module == "worker" or room(module) != "worker", f"{module} is in no room of the house"
    assert breaches(module, SOURCES[module]) == set()


def test_house_has_no_import_cycle() -> None:
    """No chain of imports, not even of late ones, leads back to where it began."""
    assert cycle(SOURCES) == []


@pytest.mark.parametrize(
    ("module", "source", "breach"),
    [
        ("schemas.event", "import aiohttp", "aiohttp"),
        ("schemas.event", "from worker.policy import backoff", "worker.policy.backoff"),
        ("worker.policy.backoff", "import random", "random"),
        ("worker.policy.backoff", "import structlog", "structlog"),
        ("worker.policy.fault", "from worker.flow.handle import Handler", "worker.flow.handle.Handler"),
        ("worker.dcs.client", "def late():\n    from worker.rabbit import topology", "worker.rabbit.topology"),
        ("worker.flow.handle", "from worker import bootstrap", "worker.bootstrap"),
        ("worker.flow.handle", "from ..dcs import client", "..dcs.client"),
        ("worker.flow.handle", "from aiohttp import ClientSession", "aiohttp.ClientSession"),
        ("worker.dcs.client", "from aiohttp import ClientSession", "aiohttp.ClientSession"),
        ("worker.rabbit.link", "from aiohttp import web", "aiohttp.web"),
        ("worker.rabbit.link", "import aiohttp\naiohttp.web.Application()", "aiohttp.web"),
        ("worker.flow.handle", "from httpx2 import AsyncClient", "httpx2.AsyncClient"),
        ("worker.flow.gate", "import redis.asyncio", "redis.asyncio"),
        ("worker.rabbit.link", "import os\nos.environ['HOME']", "os.environ"),
        ("worker.bootstrap", "from os import getenv", "os.getenv"),
        ("worker.bootstrap", "import worker.cli.run", "worker.cli.run"),
    ],
)
def test_law_has_teeth(module: str, source: str, breach: str) -> None:
    """Each kind of breach is noticed where it stands, and named."""
    assert breach in breaches(module, source)


def test_cycles_are_found_in_functions_too() -> None:
    """Two modules that import each other, one of them late, are a cycle."""
    late = "def f():\n    from worker.flow import handle"
    assert cycle({"worker.flow.handle": "import worker.flow.gate", "worker.flow.gate": late})
    assert not cycle({"worker.flow.handle": "import worker.flow.gate", "worker.flow.gate": "import json"})

"""The package in the source tree of a service: under another name, without this project."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import schemas

FOLDER = Path(schemas.__file__).parent
PROGRAM = """
import importlib, pkgutil, sys
name = sys.argv[1]
names = [module.name for module in pkgutil.iter_modules(importlib.import_module(name).__path__)]
modules = {module: importlib.import_module(f"{name}.{module}") for module in names}
client, request, asyncapi = (modules[module] for module in ("client", "request", "asyncapi"))
assert asyncapi.FILE.read_text() == asyncapi.render(asyncapi.document())
task = request.Task(name="n", vpc_id="v", subnet_id="s", security_group_id="g")
print(client.encode(request.Request(project_id="p", request_id="r", task=task)).decode())
print(type(client.read_event(sys.stdin.buffer.read())).__module__)
print(sorted(module for module in sys.modules if module.partition(".")[0] in ("schemas", "worker")))
"""


@pytest.mark.parametrize("name", ["dcs_messages", "orders.migration"])
def test_copy_works_under_any_name(name: str, tmp_path: Path) -> None:
    """A service copies the folder, calls it as it likes, and has its own `schemas` beside it."""
    copy = tmp_path.joinpath(*name.split("."))
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "schemas.py").write_text("raise AssertionError('the package of the service was imported')")
    command = [sys.executable, "-c", PROGRAM, name]
    event = (FOLDER / "examples" / "event" / "failed_rejected.json").read_bytes()
    done = subprocess.run(command, cwd=tmp_path, input=event, capture_output=True, check=False, timeout=30, env={})
    assert done.returncode == 0, done.stderr.decode()
    body, module, ours = done.stdout.decode().splitlines()
    task = {"name": "n", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}
    assert json.loads(body) == {"project_id": "p", "request_id": "r", "task": task}
    assert (module, ours) == (f"{name}.event", "[]")


def test_types_are_for_everybody() -> None:
    """The marker by which type checkers of other projects use the annotations (PEP 561)."""
    assert (FOLDER / "py.typed").read_bytes() == b""

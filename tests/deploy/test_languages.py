"""The messages in other languages: types by the official generator, compiled, and tried with the events of a worker."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import schemas
from schemas.asyncapi import FILE
from schemas.asyncapi_messages import EVENTS
from schemas.event import KEYS
from schemas.generate import documents
from schemas.request import parse
from tests.fakes.servers import RabbitMqServer
from tools.harness.npm_packages import installed
from tools.harness.running_system import RunningSystem, request, until

pytestmark = [pytest.mark.languages, pytest.mark.timeout(600)]

SOURCES = Path(__file__).parents[2] / "tools" / "languages"
FOLDER = Path(schemas.__file__).parent
OLDEST_PYDANTIC = "2.5"
SERVICE = """
from orders.client import Event, ProvisioningEvent, encode, read_event, read_provisioning_event
from orders.event import FAILED_KEY, SUCCEEDED_KEY, MigrationFailed
from orders.request import Request, Task

TASK = Task(name="n", vpc_id="v", subnet_id="s", security_group_id="g", description=None)
request = Request(project_id="p", request_id=None, task=TASK)
assert b"null" not in encode(request)


def seconds(routing_key: str, body: bytes) -> float:
    if routing_key not in (SUCCEEDED_KEY, FAILED_KEY):
        later: ProvisioningEvent = read_provisioning_event(body)
        return (later.completed_at - later.succeeded_at).total_seconds()
    event: Event = read_event(body)
    if isinstance(event, MigrationFailed):
        assert str(event.reason)
    return (event.completed_at - event.received_at).total_seconds()
"""
TRIAL = """
import sys
from service import seconds
for line in sys.stdin.buffer:
    key, _, body = line.partition(b" ")
    assert seconds(key.decode(), body) >= 0
"""


def run(*command: str | Path, folder: Path, text: str = "", **environment: object) -> str:
    """Standard output of a command that must succeed."""
    added = {name: str(value) for name, value in environment.items()}
    done = subprocess.run(
        command,
        cwd=folder,
        input=text,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | added,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `go` and `typescript`: the generated types beside the programs that use them."""
    folder = tmp_path_factory.mktemp("languages")
    packages = installed(SOURCES)
    for language in ("go", "typescript"):
        shutil.copytree(SOURCES / language, folder / language)
    places = [str(folder / language / "messages") for language in ("go", "typescript")]
    names = json.loads(run("node", "generate.mjs", str(FILE), *places, folder=packages))
    assert {"MigrationRequest", "MigrationSucceeded", "MigrationFailed", "DcsError", "Violation"} <= set(names)
    assert [name for name in names if name.startswith("Anonymous")] == []
    return folder


@pytest.fixture(scope="module")
def events(rabbit: RabbitMqServer, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Routing key and JSON body, one event a line: of 261 requests and their follow-ups, and the committed examples."""
    published = asyncio.run(collected(rabbit.url, tmp_path_factory.mktemp("worker")))
    examples = [
        (KEYS[type_], json.loads(file.read_bytes()))
        for _, name, _, type_ in EVENTS
        for file in sorted((FOLDER / "examples" / "event").glob(f"{name}_*.json"))
    ]
    return [f"{key} {json.dumps(body, ensure_ascii=False)}" for key, body in published + examples]


async def collected(amqp_url: str, folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Routing keys and bodies of the events of 261 requests, and of the follow-up of 181 created tasks."""
    kinds: dict[str, Any] = {"refused": ["error 400 DCS.4013"], "exhausted": ["error 400 DCS.4026"] * 9}
    scripts = {f"{kind}-{number}": script for kind, script in kinds.items() for number in range(20)}
    scripts["broken"] = ["fail no free address"]
    async with RunningSystem(amqp_url, folder) as system:
        await system.fake_dcs.apply({"scripts": scripts, "provisioning": 1.0})
        await system.worker(WORKER_TRIES=1, WORKER_RETRY_DELAYS="0.2,4", WORKER_FOLLOW_UP="true").ready()
        await system.publish(request("broken"))
        for number in range(180):
            await system.publish(request(f"good-{number}"))
        for number in range(20):
            for kind in kinds:
                await system.publish(request(f"{kind}-{number}"))
            await system.publish(request(f"late-{number}", not_after="2020-01-01T00:00:00Z"))
            await system.publish(request(f"misspelt-{number}", projectId="p"))
        await system.answered(261)
        await until(lambda: len(system.events) >= 261 + 181, 40)
        assert {event.key for event in system.events} == set(KEYS.values())
        assert {event.body.get("reason") for event in system.events} == {
            None,
            *("rejected", "exhausted", "expired", "invalid_request", "task_failed"),
        }
        return [(event.key, event.body) for event in system.events]


def bodies(lines: list[str]) -> list[Any]:
    """The events without their routing keys."""
    return [json.loads(line.partition(" ")[2]) for line in lines]


def assert_is_taken(body: str, name: str) -> None:
    """Assert that a worker takes a request as a language wrote it."""
    assert parse(body.encode(), max_bytes=65_536).model_dump(exclude_none=True) == {
        "project_id": "p",
        "task": {"name": name, "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"},
    }


def without_nulls(content: Any) -> Any:
    """Go has empty text and 0 where JSON has null."""
    if isinstance(content, dict):
        return {name: without_nulls(value) for name, value in content.items() if value not in (None, "", 0)}
    return [without_nulls(member) for member in content] if isinstance(content, list) else content


def test_typescript_reads_and_writes_messages(generated: Path, events: list[str]) -> None:
    """Compiled strictly, events have the generated types and come back as they were; a request with nulls is taken."""
    folder = generated / "typescript"
    types = {KEYS[type_]: documents()[f"migration_{name}"]["title"] for _, name, _, type_ in EVENTS}
    imports = [f'import {{ {name} }} from "./messages/{name}";' for name in types.values()]
    typed = "const typed = <T>(event: T): T => event;"
    values = [f"typed<{types[key]}>({body})," for key, _, body in (line.partition(" ") for line in events)]
    (folder / "events.ts").write_text("\n".join([*imports, typed, "export const events = [", *values, "];"]))
    compiler = installed(SOURCES) / "node_modules" / ".bin" / "tsc"
    options = ["--strict", "--target", "es2022", "--module", "commonjs", "--outDir", "compiled"]
    run(compiler, *options, "roundtrip.ts", folder=folder)
    *written, body = run("node", "compiled/roundtrip.js", folder=folder).splitlines()
    assert [json.loads(line) for line in written] == bodies(events)
    assert "null" in body
    assert_is_taken(body, "ts")


def test_go_reads_and_writes_messages(generated: Path, events: list[str], tmp_path: Path) -> None:
    """Compiled; every event comes back as it was, but for the nulls, and a request of zero values is taken."""
    program = tmp_path / "roundtrip"
    run("go", "build", "-o", program, ".", folder=generated / "go", GOCACHE=tmp_path / "cache", GOFLAGS="-mod=mod")
    *written, body = run(program, folder=tmp_path, text="\n".join(events)).splitlines()
    assert [without_nulls(json.loads(line)) for line in written] == without_nulls(bodies(events))
    assert_is_taken(body, "go")


def test_python_copies_the_package(events: list[str], tmp_path: Path) -> None:
    """Under another name, with the oldest pydantic that it works with; type checkers use its types."""
    shutil.copytree(FOLDER, tmp_path / "orders", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "service.py").write_text(SERVICE)
    (tmp_path / "trial.py").write_text(TRIAL)
    run(sys.executable, "-m", "mypy", "--strict", "service.py", folder=tmp_path, PYTHONPATH="")
    run(sys.executable, "-m", "venv", "python", folder=tmp_path)
    python = tmp_path / "python" / "bin" / "python"
    run(python, "-m", "pip", "-q", "install", f"pydantic=={OLDEST_PYDANTIC}.*", folder=tmp_path)
    run(python, "trial.py", folder=tmp_path, text="\n".join(events) + "\n", PYTHONPATH="")

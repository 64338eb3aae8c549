"""Choice of the broker: an installed server, a container, or an error."""

import asyncio
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from worker.tools.servers import ServerFailedError, ServerUnavailableError, new_broker, replies_with
from worker.tools.servers.rabbitmq import CONNECTION_START, PROTOCOL_HEADER

# A container engine that runs one image: a server that says what a broker says first. Like an engine's, its
# containers outlive the client that asked for them.
ENGINE = """#!{python}
import os, signal, socket, sys
place = {place!r}
command = sys.argv[1]
with open(place + "/calls", "a") as calls:
    print(command, file=calls)
if command == "rm":
    os.kill(int(open(place + "/container").read()), signal.SIGKILL)
if command == "run":
    port = int(sys.argv[sys.argv.index("--publish") + 1].split(":")[1])
    server = socket.create_server(("127.0.0.1", port))
    container = os.fork()
    if container:
        open(place + "/container", "w").write(str(container))
        os.waitpid(container, 0)
    while True:
        client, _ = server.accept()
        client.sendall(bytes([1, 0, 0]) if client.recv(8) else b"")
        client.close()
"""


FAILING = """#!/bin/sh
[ "$1" = info ] || { echo "Error: no such image"; exit 125; }
"""


async def greeted(url: str) -> bool:
    """Whether a broker answers at the address."""
    port = urlsplit(url).port
    assert port is not None
    return await asyncio.to_thread(replies_with, port, PROTOCOL_HEADER, CONNECTION_START)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without RabbitMQ whose PATH holds one working container engine; returns its program."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("worker.tools.servers.rabbitmq.PACKAGED_SCRIPTS", tmp_path)
    program = tmp_path / "podman"
    program.write_text(ENGINE.format(python=sys.executable, place=str(tmp_path)))
    program.chmod(0o755)
    return program


async def test_installed_server_is_started() -> None:
    """With RabbitMQ installed, a private node is started, and removed afterwards."""
    async with new_broker() as node:
        assert await greeted(node.url)
    assert not await greeted(node.url)


async def test_container_is_started_without_installed_server(engine: Path) -> None:
    """Without an installed server the engine runs a container, which is removed at the end."""
    async with new_broker() as node:
        assert await greeted(node.url)
    assert not await greeted(node.url)
    assert (engine.parent / "calls").read_text().split() == ["info", "run", "rm"]


async def test_failed_container_engine_is_quoted(engine: Path) -> None:
    """When the engine cannot run the image, the error quotes it."""
    engine.write_text(FAILING)
    with pytest.raises(ServerFailedError, match="no such image"):
        async with new_broker():
            pytest.fail("it started")


async def test_missing_server_and_engine_are_reported_in_one_sentence(engine: Path) -> None:
    """Without server and working engine, the error says in one sentence what to do."""
    engine.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(ServerUnavailableError, match=r"^There is no broker to use: name one with --broker, [^.]*\.$"):
        new_broker()

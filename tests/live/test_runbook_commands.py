"""The commands of deploy/runbook.md as printed, and what it says of lost and moved queues: real servers and a worker.

`kubectl` is checked in tests/deploy/test_runbook.py.
"""

import asyncio
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aio_pika
import pytest

from schemas import names
from tests.fakes.servers import RabbitMqServer, RedisServer
from tools.harness.parked_queue import ROOT, CommandLine, park, parked_headers, settings
from tools.harness.runbook import commands
from tools.harness.running_system import PROJECT, RunningSystem, request, until

RUNBOOK: Final = (ROOT / "deploy" / "runbook.md").read_text()
PARKED_REASONS: Final = ("exhausted", "unresolved", "unauthenticated", "forbidden", "poison")
POLICY: Final = "the-limit"
MOVED: Final = "dcs.migration.moved"
COMMAND_TIMEOUT_SECONDS: Final = 60.0
ON_ITS_OWN: Final = "shovel"
"""Commands with this word have a test of their own."""


@dataclass
class Console:
    """An operator's shell: `dcs-worker` with the worker's settings, `redis-cli`, `curl`, rabbitmqctl of the node."""

    node: RabbitMqServer
    folder: Path
    environment: Mapping[str, str]
    words: Mapping[str, str]
    """What the words in capitals stand for."""

    async def run(self, command: str, **changes: str) -> str:
        """Run a command as printed; its output. A failure is an assertion."""
        for word, meaning in self.words.items():
            command = re.sub(rf"\b{word}\b", meaning, command)
        if command.startswith("rabbitmqctl "):
            return await self.node.ctl(*shlex.split(command)[1:])
        program, *arguments = shlex.split(command)
        if program == "dcs-worker" and ">" not in arguments:
            done = await CommandLine({**self.environment, **changes}, self.folder).run(*arguments)
            assert done.status == 0, (command, done)
            return done.output
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", command),
            cwd=self.folder,
            env={**self.environment, **changes},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(COMMAND_TIMEOUT_SECONDS):
            output, _ = await process.communicate()
        assert process.returncode == 0, (command, output.decode())
        return output.decode()


def console(system: RunningSystem, node: RabbitMqServer, redis: RedisServer, http_port: int = 1) -> Console:
    """A shell in the folder of the system, with `dcs-worker` in its path."""
    programs = system.folder / "programs"
    programs.mkdir()
    (programs / "dcs-worker").write_text(f'#!/bin/sh\nexec {sys.executable} -m worker "$@"\n')
    (programs / "dcs-worker").chmod(0o755)
    header = "project_id,request_id,name,vpc_id,subnet_id,security_group_id"
    rows = [f"{PROJECT},sent-{number},sent-{number},vpc,subnet,group" for number in range(5)]
    (system.folder / "requests.csv").write_text("\n".join([header, *rows, ""]))
    worker = {"WORKER_CLAIMS_URL": redis.url, "WORKER_HTTP_HOST": "127.0.0.1", "WORKER_HTTP_PORT": str(http_port)}
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        **settings(system.amqp_url, system.folder, system.fake_dcs.url),
        **worker,
    }
    words = {
        "REPLICA:8000": f"127.0.0.1:{http_port}",
        "PROJECT": PROJECT,
        "REDIS": redis.url,
        "POLICY": POLICY,
        "USER": "guest",
        "PASSWORD": "guest",
    }
    return Console(node, system.folder, environment, words)


def chapters() -> list[tuple[str, list[str]]]:
    """Title and commands of each chapter that has any; without kubectl."""
    parts = re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)[1:]
    found = [
        (part.partition("\n")[0], [line for line in commands(part) if not line.startswith("kubectl ")])
        for part in parts
    ]
    return [(title, lines) for title, lines in found if lines]


async def _park_one_of_each(system: RunningSystem, title: str) -> str:
    """Park a request for each reason, and a message that is no request; the id of the one that the chapter is about."""
    ids = {reason: f"{title.replace(' ', '-').lower()}-{reason}" for reason in PARKED_REASONS}
    async with await system._connection.channel() as channel:
        for reason, name in ids.items():
            await park(channel, request(name, name), headers=parked_headers(x_parked_reason=reason))
        await park(channel, b"[]", headers=parked_headers(x_parked_reason="invalid_request"), message_id=f"m-{title}")
    return next((name for reason, name in ids.items() if reason in title.lower()), ids["exhausted"])


@pytest.mark.timeout(300)
async def test_commands_run_as_printed(own_rabbit: RabbitMqServer, redis_node: RedisServer, tmp_path: Path) -> None:
    """Chapter by chapter, each with a parked request of each reason, beside a worker: every command succeeds.

    One that several chapters print runs in the first of them; with an ID, in each.
    """
    async with RunningSystem(own_rabbit.url, tmp_path) as system:
        worker = system.worker(WORKER_CLAIMS_URL=redis_node.url)
        await worker.ready()
        shell = console(system, own_rabbit, redis_node, worker.http_port)
        limit = '{"max-length":1000000}'
        await own_rabbit.ctl("set_policy", "--apply-to", "queues", POLICY, "retry", limit)
        printed: set[str] = set()
        for title, lines in chapters():
            subject = await _park_one_of_each(system, title)
            chapter = Console(own_rabbit, tmp_path, shell.environment, {**shell.words, "ID": subject})
            for line in lines:
                if ON_ITS_OWN not in line and line not in printed:
                    await chapter.run(line)
                if "ID" not in line.split():
                    printed.add(line)
        for file in ("dropped.jsonl", "poison.jsonl"):
            assert json.loads((tmp_path / file).read_text().splitlines()[0])
        assert "the-limit" not in await own_rabbit.ctl("list_policies")
        created = [task.name for task in system.fake_dcs.tasks]
        assert len(created) == len(set(created))
        assert {f"sent-{number}" for number in range(5)} <= set(created)


@pytest.mark.timeout(180)
async def test_lost_broker_and_lost_redis_cost_no_second_task(
    own_rabbit: RabbitMqServer, redis_node: RedisServer, tmp_path: Path
) -> None:
    """Everything is published again: with the queues lost Redis answers, with Redis lost too the tasks are adopted."""
    async with RunningSystem(own_rabbit.url, tmp_path) as system:
        worker = system.worker(WORKER_CLAIMS_URL=redis_node.url)
        await worker.ready()
        shell = console(system, own_rabbit, redis_node)
        declare, submit = (line for title, lines in chapters() if title == "Broker lost" for line in lines[1:])
        await shell.run(submit)
        # The one call that belongs to no request: whether the region keeps the marker.
        await until(lambda: worker.metric("dcs_worker_marker_kept") == 1, 20, worker.explain)
        calls = len(system.fake_dcs.calls)

        for step in ("delete_vhost /", "add_vhost /", "set_permissions -p / guest .* .* .*"):
            await own_rabbit.ctl(*step.split())
        await shell.run(declare)
        await worker.ready()
        await shell.run(submit)
        assert len(system.fake_dcs.calls) == calls

        await shell.run("redis-cli -u REDIS flushall")
        worker.process.kill()
        assert await worker.ended() == -9
        await system.worker(WORKER_CLAIMS_URL=redis_node.url).ready()
        assert "adopted" in await shell.run(submit)
        task_names = [task.name for task in system.fake_dcs.tasks]
        assert sorted(task_names) == [f"sent-{number}" for number in range(5)]


@pytest.mark.timeout(180)
async def test_shovelled_requests_are_worked_on_once(redis_node: RedisServer, tmp_path: Path) -> None:
    """From the queue of what is unroutable, and from the requests queue to another one, with the state that counts."""
    unroutable, moving = (line for _, lines in chapters() for line in lines if ON_ITS_OWN in line)
    with RabbitMqServer(plugins=["rabbitmq_shovel"]) as node:
        async with RunningSystem(node.url, tmp_path) as system:
            shell = console(system, node, redis_node)
            await node.ctl("import_definitions", str(ROOT / "deploy" / "rabbitmq" / "alternate-exchange.json"))
            worker = system.worker(WORKER_RECONCILE="ambiguous")
            await worker.ready()
            async with await system._connection.channel() as channel:
                exchange = await channel.get_exchange(names.REQUEST_EXCHANGE)
                await exchange.publish(_message("astray"), "wrong-key")
            await shell.run(unroutable)
            await system.answered(1)

            worker.process.terminate()
            assert await worker.ended() == 0
            headers = {names.ATTEMPTS: 1, names.LAST_SENT_AT: "2026-11-01T08:59:00.000Z"}
            await system.publish(request("moved", "moved"), headers=headers)
            changes = {"WORKER_QUEUE": f"{MOVED}.requests", "WORKER_REQUEST_EXCHANGE": MOVED}
            await shell.run("dcs-worker topology apply", **changes)
            await shell.run(moving)
            await system.worker(WORKER_RECONCILE="ambiguous", **changes).ready()
            await system.answered(2)
            system.assert_one_task_each(["astray", "moved"])
            operations = [call.operation for call in system.fake_dcs.calls]
            assert operations[:2] == ["create", "list"], "a create may have been sent for what was moved: look first"
            assert await system.depth(names.REQUEST_QUEUE) == 0


def _message(name: str) -> aio_pika.Message:
    return aio_pika.Message(json.dumps(request(name, name)).encode(), delivery_mode=2)

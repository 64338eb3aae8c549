"""`parked` commands with very many requests, and when the broker or the output fails in the middle of them."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import pytest

from schemas import names
from schemas.journal import EMPTY, Kind
from tests.fakes.servers import RabbitMqServer
from tools.harness.parked_queue import ROOT, CommandLine, ParkedQueueSetup, park, parked_headers, read, settings
from tools.harness.running_system import request
from worker.rabbit.tools import parked_queue
from worker.rabbit.tools.parked_queue import READ_AHEAD

FEW, MORE = 4 * READ_AHEAD, 2500
MAX_BYTES_PER_REQUEST = 3_000
"""Of memory, in a command that keeps a line for each request. A whole message with its journal takes 25,000."""
MEASURED = (
    "import atexit, os; from pathlib import Path; from worker.__main__ import main; "
    "atexit.register(lambda: Path(os.environ['STATUS']).write_text(Path('/proc/self/status').read_text())); main()"
)
COMMANDS = (
    ("list", "--each", "--json"),
    ("export", "--to", "export.jsonl"),
    ("drop", "--all"),
    ("replay", "--all"),
    ("replay", "--name", "many-*", "--canary", "0", "--yes"),
)


def _journal() -> str:
    journal = EMPTY
    for number in range(1, 6):
        journal = journal.add(1e9, Kind.LOOKUP, "absent", took=0.1, id_="0123456789abcdef0123456789abcdef")
        journal = journal.add(1e9, Kind.CREATE, "503", n=number, took=0.1, evidence="refused", code="DCS.5000", id_="x")
        journal = journal.add(1e9, Kind.WAIT, "503", n=number, took=60)
    return journal.text()


async def _park_many(amqp_url: str, count: int, prefix: str = "many") -> None:
    headers = parked_headers() | {names.JOURNAL: _journal()}
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        for start in range(0, count, 500):
            ids = [f"{prefix}-{number}" for number in range(start, min(start + 500, count))]
            await park(channel, *(request(one, one) for one in ids), headers=headers)


@pytest.fixture
def lot(vhost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ParkedQueueSetup:
    """A vhost of this test's own with its queues, and an empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    setup = ParkedQueueSetup(vhost, settings(vhost, tmp_path))
    setup.declare()
    return setup


async def _run_python(lot: ParkedQueueSetup, code: str, *arguments: str) -> tuple[int | None, bytes, bytes]:
    """Exit status, output and errors of a command that is started by `code`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, "parked", *arguments),
        env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "STATUS": "status", **lot.environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode, output, errors


async def _peaks(lot: ParkedQueueSetup, count: int) -> dict[tuple[str, ...], int]:
    """The most bytes of memory that each command takes for so many parked requests."""
    await _park_many(lot.amqp_url, count)
    Path("export.jsonl").unlink(missing_ok=True)
    peaks: dict[tuple[str, ...], int] = {}
    for arguments in COMMANDS:
        status, _, errors = await _run_python(lot, MEASURED, *arguments)
        assert status == 0, errors
        (line,) = (line for line in Path("status").read_text().splitlines() if line.startswith("VmHWM:"))
        peaks[arguments] = int(line.split()[1]) * 1024
    return peaks


async def _depth(amqp_url: str, queue: str) -> int:
    """Number of messages in a queue that are ready."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        return (await channel.declare_queue(queue, passive=True)).declaration_result.message_count or 0


async def _until_one_waits(amqp_url: str) -> None:
    async with asyncio.timeout(20):
        while not await _depth(amqp_url, names.REQUEST_QUEUE):
            await asyncio.sleep(0.05)


async def _ids(amqp_url: str) -> list[str]:
    """The ids of the parked requests, in the order of the queue."""
    return [json.loads(message.body)["request_id"] for message in await read(amqp_url)]


@pytest.mark.timeout(180)
async def test_memory_of_a_command_hardly_grows_with_the_parked_requests(lot: ParkedQueueSetup) -> None:
    """No command keeps messages: in a pod it shares the memory of the worker."""
    few, many = [await _peaks(lot, count) for count in (FEW, FEW + MORE)]

    grown = {command: (many[command] - few[command]) / MORE for command in COMMANDS}
    assert max(grown.values()) < MAX_BYTES_PER_REQUEST, grown
    assert await read(lot.amqp_url) == []


async def test_selected_requests_behind_many_others_are_found(lot: ParkedQueueSetup) -> None:
    """All that are not selected are held meanwhile, and parked again afterwards."""
    others = 2 * READ_AHEAD + 10
    await _park_many(lot.amqp_url, others, "other")
    await _park_many(lot.amqp_url, READ_AHEAD + 5)
    command_line = CommandLine(lot.environment, Path())

    done = await command_line.run("parked", "drop", "--name", "many-*", "--yes", "--to", "-")

    lines = [json.loads(line)["request_id"] for line in done.output.splitlines()]
    assert (done.status, lines) == (0, [f"many-{number}" for number in range(READ_AHEAD + 5)])
    assert sorted(await _ids(lot.amqp_url)) == sorted(f"other-{number}" for number in range(others))


async def test_full_disk_in_the_middle_of_drop_deletes_only_what_was_written(lot: ParkedQueueSetup) -> None:
    """What the file holds and what is parked are all requests; one sentence says why it stopped."""
    await _park_many(lot.amqp_url, 3 * READ_AHEAD)
    size = len((await CommandLine(lot.environment, Path()).run("parked", "export")).output) // 2
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size})); "
    code += "from worker.__main__ import main; main()"

    status, output, errors = await _run_python(lot, code, "drop", "--all", "--yes", "--to", "dropped.jsonl")

    parked = set(await _ids(lot.amqp_url))
    deleted = 3 * READ_AHEAD - len(parked)
    assert 0 < deleted < 3 * READ_AHEAD
    assert (status, output, errors.decode().splitlines()) == (
        1,
        b"",
        [
            f"{deleted:,} requests were deleted and are saved in the file dropped.jsonl.",
            "Cannot write to the file dropped.jsonl: File too large. "
            "Choose another one with --to; --to - is standard output.",
        ],
    )
    whole = [line for line in Path("dropped.jsonl").read_text().splitlines(keepends=True) if line.endswith("\n")]
    saved = {json.loads(line)["request_id"] for line in whole}
    assert saved | parked == {f"many-{number}" for number in range(3 * READ_AHEAD)}


async def test_full_disk_behind_standard_output_deletes_nothing(lot: ParkedQueueSetup) -> None:
    """One sentence, also for a list."""
    await _park_many(lot.amqp_url, 5)
    with Path("/dev/full").open("wb") as full:
        for arguments, words in (
            (("drop", "--all", "--yes", "--to", "-"), "Cannot write to standard output"),
            (("list",), "The output cannot be written"),
        ):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "worker", "parked", *arguments),
                env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), **lot.environment},
                stdout=full,
                stderr=asyncio.subprocess.PIPE,
            )
            _, errors = await process.communicate()
            assert (process.returncode, errors.decode()) == (1, f"{words}: No space left on device.\n")
    assert len(await _ids(lot.amqp_url)) == 5


async def test_broker_gone_in_the_middle_is_one_sentence(lot: ParkedQueueSetup, rabbit: RabbitMqServer) -> None:
    """Nothing is lost, and the numbers say what is where."""
    await _park_many(lot.amqp_url, 50)
    command_line = CommandLine(lot.environment, Path())
    process = await command_line.start("parked", "replay", "--all", "--yes", "--canary", "0", "--rate", "10")
    await _until_one_waits(lot.amqp_url)
    await rabbit.ctl("close_all_connections", "--vhost", lot.amqp_url.rpartition("/")[2], "maintenance")
    output, errors = await process.communicate()

    assert process.returncode == 69
    assert errors.count(b"The connection to the broker was lost") == 1
    assert b"Traceback" not in errors
    assert b" replayed, the others are still parked." in output
    sent = await asyncio.to_thread(lot.taken, names.REQUEST_QUEUE)
    replayed = {json.loads(message.body)["request_id"] for message in sent}
    assert replayed | set(await _ids(lot.amqp_url)) == {f"many-{number}" for number in range(50)}


@pytest.fixture
def alarmed() -> Iterator[RabbitMqServer]:
    """A node of this test's own, with a memory alarm."""
    with RabbitMqServer() as node:
        yield node


def test_replay_under_a_memory_alarm_says_what_is_where(
    alarmed: RabbitMqServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy that was not confirmed arrives when the alarm is over: it is in both queues then, as was said."""
    monkeypatch.setattr(parked_queue, "CONFIRM_TIMEOUT_SECONDS", 1.0)
    monkeypatch.chdir(tmp_path)
    lot = ParkedQueueSetup(alarmed.url, settings(alarmed.url, tmp_path))
    lot.declare()
    ids = lot.park_many(3)
    alarmed.run_ctl("set_vm_memory_high_watermark", "absolute", "1000")

    done = lot.run("parked", "replay", "--all", "--canary", "0", "--yes")

    assert done.status == 69
    assert done.output == (
        "0 replayed, the others are still parked.\n"
        "1 more may be both replayed and parked, since the broker did not confirm its copy. "
        "This does no harm: a request has one task.\n"
    )
    assert "a memory or disk alarm may be on" in done.errors
    alarmed.run_ctl("set_vm_memory_high_watermark", "0.4")
    asyncio.run(_until_one_waits(lot.amqp_url))
    assert sorted(asyncio.run(_ids(lot.amqp_url))) == ids

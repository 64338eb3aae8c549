"""Starts `dcs-worker` as a process forked from an interpreter that has imported it, which saves a second of CPU.

What is forked is a process like any other: with its own environment, folder, standard streams and signals.
`python -m worker` itself is started by the tests of the demo, of the README's commands and of the command line.
"""

import asyncio
import atexit
import functools
import gc
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NoReturn

import worker
from worker.__main__ import main

MAX_REQUEST = 1 << 17
STREAMS = 3


class WarmProcess:
    """A forked `dcs-worker`, with the methods of subprocess.Popen."""

    def __init__(self, reply: socket.socket) -> None:
        self._reply = reply
        self.pid = int(reply.recv(16))
        self.returncode: int | None = None
        reply.setblocking(False)

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        if self.returncode is None:
            try:
                self._ended(self._reply.recv(16))
            except BlockingIOError:
                return None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit status. Raises subprocess.TimeoutExpired."""
        end = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired("dcs-worker", timeout or 0)
            select.select([self._reply], [], [], left)
        return status

    async def ended(self) -> int:
        """The exit status, as soon as it has ended."""
        if self.returncode is None:
            self._ended(await asyncio.get_running_loop().sock_recv(self._reply, 16))
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, status: bytes) -> None:
        assert status, "the interpreter that is forked has ended"
        self.returncode = int(status)
        self._reply.close()


def start(
    arguments: Sequence[str], environment: Mapping[str, str], streams: Sequence[IO[bytes]], folder: Path | None = None
) -> WarmProcess:
    """Start `dcs-worker ARGUMENTS`; `streams` become its standard input, output and error output."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    order = json.dumps([*arguments]), json.dumps({**environment}), str(folder or Path.cwd())
    with theirs:
        numbers = [*(stream.fileno() for stream in streams), theirs.fileno()]
        socket.send_fds(_orders(), [json.dumps(order).encode()], numbers)
    return WarmProcess(ours)


@dataclass(frozen=True)
class CommandResult:
    """Exit status and output of a command."""

    status: int
    output: str
    errors: str

    @property
    def answer(self) -> Any:
        """Its output, parsed as JSON."""
        return json.loads(self.output)


@contextmanager
def command(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, stdin: bytes = b""
) -> Iterator[tuple[WarmProcess, Callable[[], CommandResult]]]:
    """Start `dcs-worker ARGUMENTS`: the process, and what gives its result at its end. Killed with the block."""
    with TemporaryFile() as given, TemporaryFile() as output, TemporaryFile() as errors:
        given.write(stdin)
        given.seek(0)
        process = start(arguments, environment, (given, output, errors), folder)

        def result() -> CommandResult:
            for written in (output, errors):
                written.seek(0)
            return CommandResult(process.wait(), output.read().decode(), errors.read().decode())

        try:
            yield process, result
        finally:
            process.kill()
            process.wait()


@functools.cache
def _orders() -> socket.socket:
    """Where the interpreter that is forked gets its orders; it ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        forked = subprocess.Popen([sys.executable, "-m", __name__, str(theirs.fileno())], pass_fds=[theirs.fileno()])

    def end() -> None:
        ours.close()
        forked.wait()

    atexit.register(end)
    return ours


def serve(orders: socket.socket) -> None:
    """Fork for each order, and tell the exit statuses. Returns in a forked process, which is then to run `main`."""
    for module in pkgutil.walk_packages(worker.__path__, "worker."):
        import_module(module.name)
    gc.collect()
    gc.freeze()
    replies: dict[int, socket.socket] = {}
    woken, waking = socket.socketpair()
    waking.setblocking(False)
    signal.set_wakeup_fd(waking.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([orders, woken], [], [])
        if woken in ready:
            woken.recv(MAX_REQUEST)
            _tell(replies)
        if orders in ready and _is_forked(orders, replies):
            break
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for each in (orders, woken, waking, *replies.values()):
        each.close()


def _is_forked(orders: socket.socket, replies: dict[int, socket.socket]) -> bool:
    """Fork for one order: True in the forked process, which is then what was ordered."""
    order, streams, _, _ = socket.recv_fds(orders, MAX_REQUEST, STREAMS + 1)
    if not order:
        _end(replies)
    with socket.socket(fileno=streams.pop()) as reply:
        pid = os.fork()
        if pid == 0:
            _become(order, streams)
            return True
        reply.send(str(pid).encode())
        replies[pid] = reply.dup()
    for stream in streams:
        os.close(stream)
    return False


def _tell(replies: dict[int, socket.socket]) -> None:
    while replies:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with replies.pop(pid) as reply:
            try:
                reply.send(str(os.waitstatus_to_exitcode(status)).encode())
            except OSError:  # nobody asks any more
                continue


def _end(replies: dict[int, socket.socket]) -> NoReturn:
    for pid in replies:
        os.kill(pid, signal.SIGKILL)
    sys.exit()


def _become(order: bytes, streams: Sequence[int]) -> None:
    arguments, environment, folder = json.loads(order)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(json.loads(environment))
    os.chdir(folder)
    sys.argv = ["dcs-worker", *json.loads(arguments)]


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
    main()

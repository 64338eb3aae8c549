"""Check of the HTTP port for metrics and health: free, or in use by a worker."""

import asyncio
import errno
import os
import socket
from contextlib import suppress
from typing import Final

from worker.cli.doctor.network import resolve_host
from worker.policy.diagnostics import Check, failed, ok, unchecked

LIVENESS_TIMEOUT_SECONDS: Final = 3.0
_CHECK_NAME: Final = "HTTP port"
_ALIVE_TEXT: Final = b'"alive": true'
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not listened on


async def check_port(host: str, port: int) -> Check:
    """Whether a worker could listen on the port; it is bound for a moment, without listening."""
    if port == 0:
        return unchecked(_CHECK_NAME, "WORKER_HTTP_PORT is 0: the worker uses any free port")
    subject = f"{host}:{port}"
    try:
        for family, kind, protocol, _, address in await resolve_host(host, port):
            _bind(socket.socket(family, kind, protocol), address)
    except TimeoutError:
        return failed(_CHECK_NAME, "the host name did not resolve in time", "correct WORKER_HTTP_HOST", subject=subject)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and await _is_worker(_WILDCARDS.get(host, host), port):
            return ok(_CHECK_NAME, "in use by a worker, which is alive", subject=subject)
        return failed(_CHECK_NAME, f"cannot listen: {_error_text(error)}", _remedy(error, port), subject=subject)
    return ok(_CHECK_NAME, "free", subject=subject)


def _bind(probe: socket.socket, address: tuple[object, ...]) -> None:
    with probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the worker's own server does
        probe.bind(address)


async def _is_worker(host: str, port: int) -> bool:
    with suppress(OSError, EOFError, asyncio.LimitOverrunError, TimeoutError):
        async with asyncio.timeout(LIVENESS_TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"GET /livez HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n")
                await reader.readuntil(_ALIVE_TEXT)
                return True
            finally:
                writer.close()
    return False


def _error_text(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)


def _remedy(error: OSError, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"set WORKER_HTTP_PORT to another port; `ss -ltnp 'sport = :{port}'` shows the process that uses it"
        case errno.EACCES:
            return "set WORKER_HTTP_PORT to a port above 1023"
        case _:
            return "set WORKER_HTTP_HOST to an address of this machine, or to 0.0.0.0"

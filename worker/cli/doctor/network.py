"""Reachability of a network address in stages, DNS, TCP, TLS, and the worker's HTTP port: free, or whose.

Nothing is sent after the TLS handshake. A live worker on the HTTP port is asked for its health.
"""

import asyncio
import errno
import json
import os
import socket
import ssl
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection

from worker.policy.diagnostics import Check, Problem, failed, ok, tls_remedy, tls_words, unchecked, warning
from worker.policy.task_matching import MARKER_KEPT, MARKER_REMEDY
from worker.rabbit.connection import NEXT_ADDRESS_SECONDS, server_name
from worker.web.server import listening_host

STAGE_TIMEOUT_SECONDS: Final = 5.0
CLOSE_TIMEOUT_SECONDS: Final = 1.0
LIVENESS_TIMEOUT_SECONDS: Final = 3.0
MAX_PAGE_BYTES: Final = 1 << 20
_PORT_CHECK: Final = "HTTP port"
_HEALTH_CHECK: Final = "live worker"
_FAILING: Final = ("failing", "disconnected")
_PASSING: Final = ("degraded", "paused")
_WILDCARDS: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port, and the environment variable that sets them."""

    host: str
    port: int
    variable: str

    @classmethod
    def of(cls, url: str, port: int, variable: str) -> "Address":
        """The address in `url`; `port` if the URL has none."""
        parts = urlsplit(url)
        return cls(parts.hostname or "", parts.port or port, variable)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


async def find_problem(address: Address, tls: ssl.SSLContext | None = None) -> Problem | None:
    """The first stage that fails on the way to `address`, None if all succeed; each stage has a timeout."""
    try:
        infos = await _resolve_host(address.host, address.port)
    except (OSError, TimeoutError) as error:
        found = f"DNS: cannot resolve {address.host}: {_error_text(error)}"
        return Problem(found, f"correct the host in {address.variable}, or the name servers of this machine")
    try:
        async with asyncio.timeout(STAGE_TIMEOUT_SECONDS):
            accepted = await start_connection(infos, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
            _, writer = await asyncio.open_connection(sock=accepted)
    except (OSError, TimeoutError) as error:
        remedy = f"check that the service is running and reachable through firewalls, or correct {address.variable}"
        return Problem(f"TCP: cannot connect to {address}: {_error_text(error)}", remedy)
    try:
        return await _find_tls_problem(writer, address, tls) if tls is not None else None
    finally:
        writer.close()
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await writer.wait_closed()


async def _resolve_host(host: str, port: int) -> list[tuple[Any, ...]]:
    """The addresses of a name, as `socket.getaddrinfo` returns them. Raises OSError and TimeoutError.

    The resolver's timeout is longer than ours and cannot be interrupted. So it runs in a daemon thread, for which
    the end of the process does not wait (that of the event loop's own threads it would wait for).
    """
    answer: Future[list[tuple[Any, ...]]] = Future()
    answer.set_running_or_notify_cancel()  # so that a late answer is ignored

    def resolve() -> None:
        try:
            answer.set_result(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except OSError as error:
            answer.set_exception(error)
        except UnicodeError:
            answer.set_exception(OSError(None, "not a valid host name"))

    threading.Thread(target=resolve, daemon=True).start()
    async with asyncio.timeout(STAGE_TIMEOUT_SECONDS):
        return await asyncio.wrap_future(answer)


async def _find_tls_problem(writer: asyncio.StreamWriter, address: Address, tls: ssl.SSLContext) -> Problem | None:
    try:
        async with asyncio.timeout(STAGE_TIMEOUT_SECONDS):
            await writer.start_tls(tls, server_hostname=server_name(address.host))
    except ssl.SSLError as error:
        found = f"TLS: handshake with {address} failed: {tls_words(error)}"
        return Problem(found, tls_remedy(error, address.variable))
    except (OSError, TimeoutError) as error:
        found = f"TLS: handshake with {address} failed: {_error_text(error)}"
        return Problem(found, f"check that the port in {address.variable} is one for TLS, and firewalls before it")
    return None


def _error_text(error: OSError) -> str:
    match error:
        case TimeoutError() if not error.args:
            return f"no answer within {STAGE_TIMEOUT_SECONDS:g} s"
        case OSError() if error.errno and error.errno > 0:
            return os.strerror(error.errno)  # the text of asyncio would repeat the address
        case _:  # of the resolver, for example
            return error.strerror or str(error) or type(error).__name__


async def check_port(host: str, port: int) -> list[Check]:
    """Whether a worker could listen on the HTTP port; it is bound for a moment, without listening.

    Of a live worker that listens there: its health, and what it knows of the markers.
    """
    if port == 0:
        return [unchecked(_PORT_CHECK, "WORKER_HTTP_PORT is 0: the worker uses any free port")]
    subject = str(Address(host, port, "WORKER_HTTP_HOST"))
    try:
        for family, kind, protocol, _, address in await _resolve_host(listening_host(host), port):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the worker's own server does
                probe.bind(address)
    except TimeoutError:
        found = "the host name did not resolve in time"
        return [failed(_PORT_CHECK, found, "correct WORKER_HTTP_HOST", subject=subject)]
    except OSError as error:
        if error.errno == errno.EADDRINUSE and await _page(host, port, "/livez") == {"alive": True}:
            page = await _page(host, port, "/readyz")
            content = page if isinstance(page, dict) else {}
            return [_worker_health(content, subject), *_marker_checks(content)]
        remedies = {
            errno.EADDRINUSE: "set WORKER_HTTP_PORT to another port; where `ss` is installed, "
            f"`ss -ltnp 'sport = :{port}'` shows the process that uses this one",
            errno.EACCES: "set WORKER_HTTP_PORT to a port above 1023",
        }
        remedy = remedies.get(error.errno or 0, "set WORKER_HTTP_HOST to an address of this machine, or to ::")
        return [failed(_PORT_CHECK, f"cannot listen: {_error_text(error)}", remedy, subject=subject)]
    return [ok(_PORT_CHECK, "free", subject=subject)]


def _worker_health(content: Mapping[str, Any], subject: str) -> Check:
    """What the worker on the HTTP port says of itself on its page /readyz."""
    status, reason = str(content.get("status", "unknown")), str(content.get("reason", "no answer from /readyz"))
    found, remedy = f"{status}: {reason}", f"do what the reason says; http://{subject}/ and the worker's log say more"
    if status in _FAILING or (status == "unknown" and not content.get("ready")):
        return failed(_HEALTH_CHECK, found, remedy, subject=subject)
    if status in _PASSING:
        return warning(_HEALTH_CHECK, found, remedy, subject=subject)
    return ok(_HEALTH_CHECK, found, subject=subject)


def _marker_checks(content: Mapping[str, Any]) -> list[Check]:
    """Whether DCS keeps the marker, in each region for which the worker knows it."""
    regions = content.get("regions")
    items = regions.items() if isinstance(regions, dict) else ()
    return [
        ok("marker", "kept in the descriptions of tasks", subject=region)
        if facts["marker"] == MARKER_KEPT
        else warning("marker", facts["marker"], MARKER_REMEDY, subject=region)
        for region, facts in items
        if "marker" in facts
    ]


async def _page(host: str, port: int, path: str) -> object:
    """The JSON of a page of what listens on `host`, with any HTTP status; None if there is none in time."""
    host = "127.0.0.1" if host in _WILDCARDS else host
    with suppress(OSError, ValueError, TimeoutError):
        async with asyncio.timeout(LIVENESS_TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n".encode())
                reply = bytearray()
                while (part := await reader.read(MAX_PAGE_BYTES)) and len(reply) < MAX_PAGE_BYTES:
                    reply += part
                content: object = json.loads(bytes(reply).partition(b"\r\n\r\n")[2])
                return content
            finally:
                writer.close()
    return None

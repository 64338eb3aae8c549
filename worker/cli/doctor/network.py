"""Reachability of a network address in stages: DNS, TCP, TLS. Nothing is sent after the TLS handshake."""

import asyncio
import os
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from worker.policy.diagnostics import Problem

STAGE_TIMEOUT_SECONDS: Final = 5.0
CLOSE_TIMEOUT_SECONDS: Final = 1.0
_HOST_MISMATCH_CODES: Final = (62, 64)
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL."""


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
        await resolve_host(address.host, address.port)
    except (OSError, TimeoutError) as error:
        found = f"DNS: cannot resolve {address.host}: {_error_text(error)}"
        return Problem(found, f"correct the host in {address.variable}, or the name servers of this machine")
    try:
        async with asyncio.timeout(STAGE_TIMEOUT_SECONDS):
            _, writer = await asyncio.open_connection(address.host, address.port)
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


async def resolve_host(host: str, port: int) -> list[tuple[Any, ...]]:
    """The addresses of a name, as `socket.getaddrinfo` returns them. Raises OSError and TimeoutError.

    The resolver's timeout is longer than ours and cannot be interrupted. So it runs in a daemon thread, for which
    the end of the process does not wait.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[tuple[Any, ...]]] = loop.create_future()

    def resolve() -> None:
        found: list[tuple[Any, ...]] | OSError
        try:
            found = list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            found = error
        except UnicodeError:
            found = OSError(None, "not a valid host name")
        with suppress(RuntimeError):  # the event loop was closed before the answer came
            loop.call_soon_threadsafe(_set_answer, answer, found)

    threading.Thread(target=resolve, daemon=True).start()
    async with asyncio.timeout(STAGE_TIMEOUT_SECONDS):
        return await answer


def _set_answer(answer: asyncio.Future[list[tuple[Any, ...]]], found: list[tuple[Any, ...]] | OSError) -> None:
    if answer.done():
        return
    if isinstance(found, OSError):
        answer.set_exception(found)
    else:
        answer.set_result(found)


async def _find_tls_problem(writer: asyncio.StreamWriter, address: Address, tls: ssl.SSLContext) -> Problem | None:
    try:
        async with asyncio.timeout(STAGE_TIMEOUT_SECONDS):
            await writer.start_tls(tls, server_hostname=address.host)
    except ssl.SSLCertVerificationError as error:
        found = f"TLS: certificate of {address} rejected: {error.verify_message}"
        if error.verify_code in _HOST_MISMATCH_CODES:
            return Problem(found, f"use a host name of the certificate in {address.variable}")
        return Problem(found, f"set {_ca_variable(address)} to the certificate file of the CA that signed it")
    except (OSError, TimeoutError) as error:
        return Problem(
            f"TLS: handshake with {address} failed: {_error_text(error)}", f"correct the port in {address.variable}"
        )
    return None


def _ca_variable(address: Address) -> str:
    return "WORKER_AMQP_CA_FILE" if "AMQP" in address.variable else "WORKER_DCS_CA_FILE"


def _error_text(error: BaseException) -> str:
    match error:
        case TimeoutError() if not error.args:
            return f"no answer within {STAGE_TIMEOUT_SECONDS:g} s"
        case ssl.SSLError():
            return (error.reason or "the peer does not speak TLS").replace("_", " ").lower()
        case socket.gaierror():
            return error.strerror or "unknown"
        case OSError() if error.errno:
            return os.strerror(error.errno)  # the text of asyncio would repeat the address
        case _:
            return str(error) or type(error).__name__

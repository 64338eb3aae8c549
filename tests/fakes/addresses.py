"""A host with two addresses, of which the first swallows packets, as a dead node behind a name does."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvloop

HOST = "two-addresses.test"
SWALLOWS, ANSWERS = "127.0.0.2", "127.0.0.1"


@contextmanager
def first_address_swallows(patch: pytest.MonkeyPatch, port: int) -> Iterator[str]:
    """The name of a host whose first address swallows packets to `port`, and whose second one is 127.0.0.1."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        if str(host).rstrip(".") != HOST:
            return resolve(host, *args, **options)
        return [*resolve(SWALLOWS, *args, **options), *resolve(ANSWERS, *args, **options)]

    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((SWALLOWS, port))
        listener.listen(0)
        for _ in range(3):  # the queue of connections that nobody accepts is full, and the kernel drops what comes next
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((SWALLOWS, port))
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield HOST


class PythonResolver(uvloop.Loop):
    """uvloop, which asks Python for the addresses of a name and not the system."""

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        """The addresses as a test has patched them."""
        return socket.getaddrinfo(host, port, **options)

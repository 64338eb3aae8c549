"""Loopback ports for private servers, and asking who answers on them."""

import random
import socket

LOOPBACK = "127.0.0.1"

# Below the ranges from which systems take ports for outgoing connections: a client that keeps dialling a server
# which is down would otherwise, sooner or later, be given that very port and be connected to itself.
PORT_RANGE = range(15_000, 32_000)
_ports_returned: set[int] = set()


def free_port() -> int:
    """A loopback port that nobody listens on, and that no earlier call in this process has returned."""
    while True:
        port = random.choice(PORT_RANGE)
        if port not in _ports_returned and _is_free(port):
            _ports_returned.add(port)
            return port


def replies_with(port: int, message: bytes, answer: bytes) -> bool:
    """Whether the server on a loopback port, on hearing `words`, answers beginning with `answer` (within 1 s)."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
            connection.sendall(message)
            return connection.recv(len(answer), socket.MSG_WAITALL) == answer
    except OSError:
        return False


def _is_free(port: int) -> bool:
    with socket.socket() as candidate:
        try:
            candidate.bind((LOOPBACK, port))
        except OSError:
            return False
        return True

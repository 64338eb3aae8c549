"""Loopback ports for private servers, and asking who answers on them."""

import random
import socket

LOOPBACK = "127.0.0.1"

# Below the ranges from which systems take ports for outgoing connections: a client that keeps dialling a server
# which is down would otherwise, sooner or later, be given that very port and be connected to itself.
PORTS = range(15_000, 32_000)
_given: set[int] = set()


def free_port() -> int:
    """A loopback port that nobody listens on, and that no earlier call in this process has returned."""
    while True:
        port = random.choice(PORTS)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port


def greets(port: int, words: bytes, answer: bytes) -> bool:
    """Whether the server on a loopback port, on hearing `words`, answers beginning with `answer` (within 1 s)."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as wire:
            wire.sendall(words)
            return wire.recv(len(answer), socket.MSG_WAITALL) == answer
    except OSError:
        return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True

"""Proof of never-sent: a connector that witnesses the moment before the first byte can leave.

Exceptions prove nothing here: httpx-aiohttp maps a disconnect after the request was sent to
`httpx.ConnectTimeout` (both derive from aiohttp's ClientConnectionError). What proves is order: the
connector hands a connection over before anything is written to it. No connection, no byte.
"""

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import aiohttp

from worker.policy.pulse import Pulse


class Witness:
    """One call: whether a connection was ever handed over for it, and whether the process ran since it began."""

    __slots__ = ("_begun", "_pulse", "was_connected")

    def __init__(self, pulse: Pulse) -> None:
        self.was_connected = False
        self._pulse = pulse
        self._begun = pulse.beat()

    @property
    def was_frozen(self) -> bool:
        """True if the process did not run all the time since the call began."""
        return self._pulse.beat() != self._begun


class NotSentError(Exception):
    """The call was given up before its first byte: the process had been frozen meanwhile."""


_witness: ContextVar[Witness | None] = ContextVar("witness", default=None)


def call_witness(pulse: Pulse) -> Witness:
    """The witness of the call that the present task is about to make."""
    witness = Witness(pulse)
    _witness.set(witness)
    return witness


if TYPE_CHECKING:
    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection


class WitnessConnector(aiohttp.TCPConnector):
    """Tells the call's witness that a connection was handed over, and stops a call that woke up too late."""

    async def connect(self, req: "ClientRequest", traces: list[Any], timeout: "ClientTimeout") -> "Connection":
        """Hand over a connection. Raises NotSentError instead when the process was frozen meanwhile."""
        connection = await super().connect(req, traces, timeout)
        witness = _witness.get()
        if witness is not None:
            if witness.was_frozen:
                connection.release()
                raise NotSentError("the process was frozen before the request could be sent")
            witness.was_connected = True
        return connection

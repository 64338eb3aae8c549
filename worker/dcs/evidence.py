"""Proof of never-sent: a witness of the moment before the first byte can leave.

Exceptions prove nothing here: a disconnect after the request was sent and a failure to connect are of one family
(aiohttp's ClientConnectionError). What proves is order: nothing is written before the witness was told.
"""

from worker.policy.pulse import Pulse


class NotSentError(Exception):
    """The call was given up before its first byte: the process had been frozen meanwhile."""


class Witness:
    """One call: whether a connection was ever handed over for it, and whether the process ran since it began."""

    __slots__ = ("_begun", "_pulse", "was_connected")

    def __init__(self, pulse: Pulse) -> None:
        self.was_connected = False
        self._pulse = pulse
        self._begun = pulse.beat()

    def connected(self) -> None:
        """There is a connection, and what is done next is to write. Raises NotSentError if the call woke up late."""
        if self._pulse.beat() != self._begun:
            raise NotSentError("the process was frozen before the request could be sent")
        self.was_connected = True

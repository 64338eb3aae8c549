"""Proof of never-sent: what one attempt at a call has handed to the network.

Exceptions prove nothing: a connection that is lost while a request is written and one that is never made raise errors
of one family. Two observers that do not know of each other have to agree that nothing was sent: the request's body is
a stream that counts when it is first read, and httpcore2 reports each step of a request to its `trace` extension. If
either of them changes its ways in a new release, results become ambiguous, never wrongly "never sent".
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import httpcore2
import httpx2

from worker.policy.freeze_detector import FreezeDetector

CONNECTED: Final = "connection.connect_tcp.complete"
CLOSING: Final = "http11.response_closed.started"
SOCKET_OPTIONS: Final = "socket_options"
"""Extension of a request: a list of options that its connection gets when it is made, as `setsockopt` takes them."""


class FrozenError(Exception):
    """The process was frozen before the request could be sent: no byte of its body was."""


class SendTracker(httpx2.AsyncByteStream):
    """What one attempt at a request has sent: the body of the request, and the callback of its trace.

    `freezes`: the count of `freeze_detector` when it was asked whether the request may be sent.
    """

    def __init__(self, content: bytes, freeze_detector: FreezeDetector, freezes: int) -> None:
        self._content = content
        self._options: list[httpcore2.SOCKET_OPTION] = []
        self._freeze_detector = freeze_detector
        self._freezes = freezes
        self._body_was_read = False
        self._request_was_started = False
        self._stream: httpcore2.AsyncNetworkStream | None = None
        self.is_closing = False
        """The exchange is over, and its connection is being freed or closed."""

    def __repr__(self) -> str:
        return f"<SendTracker: {'maybe sent' if self.may_have_sent else 'not sent'}>"

    def tracked(self, request: httpx2.Request) -> httpx2.Request:
        """A copy of the request, to be sent: it has the tracker as its body and reports its trace to it."""
        extensions = {**request.extensions, "trace": self.trace, SOCKET_OPTIONS: self._options}
        return httpx2.Request(request.method, request.url, headers=request.headers, stream=self, extensions=extensions)

    @property
    def may_have_sent(self) -> bool:
        """False only if both observers say that no byte of the body has left this process."""
        return self._body_was_read or self._request_was_started

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body, once: a request that is sent a second time is a second task."""
        if self._body_was_read:
            raise RuntimeError("a request is sent once")
        self._raise_if_frozen()
        self._body_was_read = True
        if self._content:
            yield self._content

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Note a step that httpcore2 reports.

        It must not await anything: one that suspends leaks every slot of a pool when calls are cancelled. Any event
        that speaks of a request counts as its start, with any name; only CONNECT is the proxy's, not ours.
        """
        request = info.get("request")
        if request is not None and request.method != b"CONNECT" and not self._request_was_started:
            self._raise_if_frozen()
            self._request_was_started = True
        elif event == CONNECTED:
            self._connected(info["return_value"])
        elif event == CLOSING:
            self.is_closing = True

    async def close_connection(self) -> None:
        """Close the connection that was made for this attempt, if one was: httpcore2 forgets it in TLS handshakes."""
        if self._stream is not None:
            await self._stream.aclose()

    def _connected(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        for option in self._options:
            stream.get_extra_info("socket").setsockopt(*option)

    def _raise_if_frozen(self) -> None:
        if self._freeze_detector.tick() != self._freezes:
            raise FrozenError("the process was frozen before the request could be sent")

"""HTTP messages as the room passes them on, and what carries them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from multidict import CIMultiDict
from yarl import URL

from worker.dcs.evidence import Witness

DCS_HEADERS: Final = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "dcs-migration-worker",
}
"""What every call of DCS carries."""
REPLY_LIMIT: Final = 1 << 20
"""Bytes of a reply that are read."""


class Request:
    """A call that is to be made. Header names are found in any case, and go out as they were written."""

    __slots__ = ("content", "headers", "method", "url")

    def __init__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        content: bytes = b"",
    ) -> None:
        self.method = method
        self.url = url
        self.headers: CIMultiDict[str] = CIMultiDict(headers)
        self.content = content
        if "Host" not in self.headers:
            self.headers["Host"] = host(url)

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.url}>"


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. Header names are found in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class TooLargeError(Exception):
    """The reply is larger than REPLY_LIMIT."""


class Wire(Protocol):
    """What makes calls."""

    async def send(self, request: Request, witness: Witness) -> Reply:
        """Send, and return the whole answer. Tells the witness right before the first byte can leave.

        Raises TooLargeError, NotSentError, and whatever stands between a call and its answer.
        """
        ...


@lru_cache(maxsize=1024)
def host(url: str) -> str:
    """The Host header of calls to `url`: the port only if it is not the scheme's own."""
    return URL(url).host_port_subcomponent or ""

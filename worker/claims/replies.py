"""Replies of Redis, read as they come: redis-py takes several coroutines, and the same bytes in pieces, for each.

RESP2 without arrays: none of our commands is answered with one (https://redis.io/docs/latest/develop/reference/protocol-spec/).
"""

import asyncio
from collections.abc import Callable
from typing import Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

CHUNK: Final = 1 << 16
_END: Final = b"\r\n"


class Replies:
    """Reads from `reader`; `error` makes an exception of what Redis says of an error."""

    def __init__(self, reader: asyncio.StreamReader, error: Callable[[str], Exception]) -> None:
        self._reader = reader
        self._error = error
        self._data, self._at = b"", 0

    async def read(self) -> bytes | int | None:
        """The next reply. Raises what redis-py raises."""
        while (found := self._taken()) is None:
            await self._more()
        kind, content = found
        match kind:
            case b"$":
                return content
            case b":":
                return int(content or b"")
            case b"+":
                return content
            case b"-":
                raise self._error((content or b"").decode(errors="replace"))
            case _:
                raise InvalidResponse("Redis speaks another protocol")

    def _taken(self) -> tuple[bytes, bytes | None] | None:
        """The kind and the content of a reply; None: it is not all there."""
        data, start = self._data, self._at
        end = data.find(_END, start)
        if end < 0:
            return None
        kind, head, after = data[start : start + 1], data[start + 1 : end], end + len(_END)
        if kind != b"$" or head == b"-1":
            self._at = after
            return kind, None if kind == b"$" else head
        size = int(head)
        if len(data) < after + size + len(_END):
            return None
        self._at = after + size + len(_END)
        return kind, data[after : after + size]

    async def _more(self) -> None:
        more = await self._reader.read(CHUNK)
        if not more:
            raise RedisConnectionError("Connection closed by server.")
        self._data, self._at = self._data[self._at :] + more, 0

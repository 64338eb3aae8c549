"""An HTTP endpoint that has created a task for every call, after a while if need be: `endpoint.py HOST PORT SECONDS`.

Each answer names a task of its own, as the service does: the worker believes no id twice.
"""

import asyncio
import sys
from collections import Counter
from itertools import count
from typing import cast

CREATED = b'{"instance_id":"%032x","job_id":"2c9a80c5-1b3f-4d55-9a2c-0f7f2c6d5a11"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%%b" % len(CREATED % 0)
TASKS = count(1)
BLANK = b"\r\n\r\n"


class Calls(asyncio.Protocol):
    """Answers the calls of one connection, each `seconds` after it came; counts connections, calls and their bytes."""

    def __init__(self, seconds: float, counts: Counter[str]) -> None:
        self._seconds = seconds
        self._counts = counts
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are of no asyncio class
        self._counts["http connections"] += 1

    def data_received(self, data: bytes) -> None:
        """Answer every call that is whole by now."""
        self._read += data
        while (size := whole(self._read)) and len(self._read) >= size:
            self._read = self._read[size:]
            self._counts["http calls"] += 1
            self._counts["http bytes"] += size
            asyncio.get_running_loop().call_later(self._seconds, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(ANSWER % (CREATED % next(TASKS)))


def whole(read: bytes) -> int:
    """How long the first call is, head and body; 0 as long as that is not known."""
    end = read.find(BLANK)
    if end < 0:
        return 0
    length = read[:end].lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return end + len(BLANK) + int(length or 0)


async def serve(host: str, port: int, seconds: float) -> None:
    """Serve until killed."""
    counts: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Calls(seconds, counts), host, port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))

"""One connection to Redis that many calls share.

Redis answers in the order of the commands, so calls do not wait for each other: what is asked within one turn of
the event loop goes out in one piece. A call that gets no answer in time breaks the connection: replies that come
later could not be told apart, and the other calls would wait as long.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import RedisError, ResponseError

from worker.claims.reasons import in_words, is_of_one_record
from worker.claims.replies import Replies

CONNECT_DEADLINE: Final = 2.0
CLOSE_DEADLINE: Final = 1.0
TURN: Final = 0.05
"""Seconds that a reply may lie in the socket of a busy event loop."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """What a call gets that Redis did not answer, or refused."""

    reason: str


Reply = bytes | int | None | NoAnswer
Dial = Callable[[], Any]
"""Makes a redis-py connection that is not connected yet; their methods are not annotated."""


def dial(url: str) -> Dial:
    """How to connect to `url`. Raises ValueError, without repeating it, if redis-py cannot read it."""
    # RESP2 asks least of proxies; deadlines are kept here, for whole calls, and not per read.
    ours = {"protocol": 2, "driver_info": None, "decode_responses": False}
    ours |= {"socket_timeout": None, "socket_connect_timeout": None}
    try:
        options: dict[str, Any] = {**parse_url(url), **ours}
        kind = options.pop("connection_class", Connection)
        kind(**options)
    except (ValueError, TypeError, RedisError):
        raise ValueError("has an option that is not known, or a wrong value of one") from None
    return lambda: kind(**options)


class Wire:
    """An open connection."""

    def __init__(self, connection: Any, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._asked: deque[tuple[asyncio.Future[Reply], float]] = deque()
        self._outgoing: list[bytes] = []
        self._has_outgoing = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self.broken: asyncio.Future[str] = self._loop.create_future()
        """Resolves to the reason."""

    def __repr__(self) -> str:
        return f"<Wire: {'broken' if self.broken.done() else 'open'}, {len(self._asked)} asked>"

    def ask(self, command: bytes) -> asyncio.Future[Reply]:
        """Send `command`; the reply, within the deadline."""
        reply: asyncio.Future[Reply] = self._loop.create_future()
        if self.broken.done():
            reply.set_result(NoAnswer(self.broken.result()))
            return reply
        due = self._loop.time() + self._deadline
        self._asked.append((reply, due))
        self._outgoing.append(command)
        self._has_outgoing.set()
        if self._alarm is None:
            self._alarm = self._loop.call_at(due, self._watch)
        return reply

    def break_off(self, reason: str) -> None:
        """Use the connection no more."""
        if self.broken.done():
            return
        self.broken.set_result(reason)
        if self._alarm is not None:
            self._alarm.cancel()
        while self._asked:
            self._answer(NoAnswer(reason))

    async def send(self) -> None:
        """Write what is asked, for as long as it is awaited."""
        while True:
            await self._has_outgoing.wait()
            self._has_outgoing.clear()
            commands, self._outgoing = self._outgoing, []
            await self._connection.send_packed_command(b"".join(commands), check_health=False)

    async def read(self) -> None:
        """Read replies, for as long as it is awaited. Raises the error replies that concern every call."""
        replies = Replies(self._connection._reader, self._connection._parser.parse_error)
        while True:
            reply: Reply
            try:
                reply = await replies.read()
            except ResponseError as error:
                if not is_of_one_record(error):
                    raise
                reply = NoAnswer(in_words(error))
            self._answer(reply)

    def _answer(self, reply: Reply) -> None:
        oldest, _ = self._asked.popleft()
        if not oldest.done():  # whoever asked may have been cancelled
            oldest.set_result(reply)

    def _watch(self, suspect: object = None) -> None:
        self._alarm = None
        if not self._asked:
            return
        oldest, due = self._asked[0]
        if oldest is suspect:
            self.break_off(in_words(TimeoutError()))
        elif self._loop.time() < due:
            self._alarm = self._loop.call_at(due, self._watch)
        else:
            self._alarm = self._loop.call_later(TURN, self._watch, oldest)


@asynccontextmanager
async def opened(dial: Dial, deadline: float) -> AsyncIterator[Wire]:
    """A wire over a new connection, closed in the end. Raises what redis-py raises, OSError and TimeoutError."""
    connection = dial()
    try:
        async with asyncio.timeout(CONNECT_DEADLINE):
            await connection.connect()
        wire = Wire(connection, deadline)
        running = [asyncio.create_task(_guarded(wire, work)) for work in (wire.send, wire.read)]
        try:
            yield wire
        finally:
            wire.break_off("the connection was closed")
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
    finally:
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_DEADLINE):
                await connection.disconnect()


async def _guarded(wire: Wire, work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception as error:  # noqa: BLE001 - whatever ends a connection, the next one is the remedy
        wire.break_off(in_words(error))

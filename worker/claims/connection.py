"""One connection to Redis, on redis-py's public interface: batches of commands, and what its errors mean.

Commands that are asked for while one exchange is under way travel together in the next, as one pipeline: one
connection serves hundreds of requests at once, in order, and costs a quarter of a round trip for each.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from aiohappyeyeballs import start_connection
from redis import exceptions as redis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from worker.claims.scripts import MEMORY_KEY, SCRIPTS, ScriptCall

CONNECT_TIMEOUT_SECONDS: Final = 2.0
NEXT_ADDRESS_SECONDS: Final = 0.25
"""Wait until the next address of a host is tried as well, which RFC 8305 recommends."""
CLOSE_TIMEOUT_SECONDS: Final = 1.0
BATCH_LIMIT: Final = 64
IDLE_CHECK_SECONDS: Final = 1.0
"""An idle connection is read from so often: a Redis that restarted may have forgotten claims that are held."""
BUSY_LOOP_SECONDS: Final = 0.05
"""How long a reply may lie in the socket of a busy event loop."""

_BAD_CREDENTIALS: Final = "Redis does not accept the credentials"
_NOT_PERMITTED: Final = "Redis does not permit these credentials what claims need"
# What stands in an error reply. Redis 6 wraps the errors of a command within a script and leaves their codes inside.
_REFUSALS: Final = (
    ("READONLY", "Redis is a replica that must not be written to"),
    ("OOM", "Redis is out of memory"),
    ("MASTERDOWN", "Redis is a replica without its master"),
    ("MOVED", "Redis is a cluster: claims need an endpoint that routes, like a proxy"),
    ("permission", _NOT_PERMITTED),
    ("can't run this command", _NOT_PERMITTED),
)
_ERRORS_OF_ONE_RECORD: Final = ("WRONGTYPE", "attempt to ")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NoReply:
    """Redis did not answer a command, or refused it."""

    reason: str


class RedisAnswer(NamedTuple):
    """The reply to a command, and the value of MEMORY_KEY right after it."""

    reply: bytes | int | NoReply | None
    memory: object = None


class RedisSession:
    """One open connection. `run` exchanges commands and replies for as long as it is awaited."""

    def __init__(self, client: Redis, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._clock = asyncio.get_running_loop().time
        self._scripts = {text: client.register_script(text) for text in SCRIPTS}
        self._is_sha_accepted = True
        self._waiting: list[tuple[ScriptCall, asyncio.Future[RedisAnswer], float]] = []
        self._under_way: list[tuple[ScriptCall, asyncio.Future[RedisAnswer], float]] = []
        self._has_waiting = asyncio.Event()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Resolves to the reason."""

    def __repr__(self) -> str:
        return f"<RedisSession: {'ended' if self.ended.done() else 'open'}, {len(self._waiting)} waiting>"

    def ask(self, command: ScriptCall) -> asyncio.Future[RedisAnswer]:
        """The answer to `command`, within the timeout."""
        answer: asyncio.Future[RedisAnswer] = asyncio.get_running_loop().create_future()
        if self.ended.done():
            answer.set_result(RedisAnswer(NoReply(self.ended.result())))
        else:
            self._waiting.append((command, answer, self._clock() + self._timeout))
            self._has_waiting.set()
        return answer

    def end(self, reason: str) -> None:
        """Use the connection no more; what waits is answered now."""
        if self.ended.done():
            return
        self.ended.set_result(reason)
        for _, answer, _ in (*self._under_way, *self._waiting):
            _resolve(answer, RedisAnswer(NoReply(reason)))

    async def run(self) -> None:
        """Exchange batches until one fails. A command of which it is not known whether it arrived is never repeated."""
        try:
            while not self.ended.done():
                if not self._waiting:
                    self._has_waiting.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(IDLE_CHECK_SECONDS):
                            await self._has_waiting.wait()
                self._under_way, self._waiting = self._waiting[:BATCH_LIMIT], self._waiting[BATCH_LIMIT:]
                due = self._under_way[0][2] if self._under_way else self._clock() + self._timeout
                await self._exchange(due)
        except Exception as error:  # noqa: BLE001 - the next session is the remedy for any error of this one
            self.end(describe(error))

    async def _exchange(self, due: float) -> None:
        """Send the commands that are under way, and hand each its answer."""
        commands = [command for command, _, _ in self._under_way]
        replies, memory = await _in_time(self._replies(commands), due - self._clock())
        refusals = []
        for (_, answer, _), reply in zip(self._under_way, replies, strict=True):
            is_refused = isinstance(reply, redis.ResponseError)
            _resolve(answer, RedisAnswer(NoReply(describe(reply)) if is_refused else reply, memory))
            if is_refused and not is_of_one_record(reply):
                refusals.append(reply)
        self._under_way = []
        if refusals:  # the next command would be refused as well
            self.end(describe(refusals[0]))

    async def _replies(self, commands: Sequence[ScriptCall]) -> tuple[list[Any], object]:
        replies, memory = await self._pipeline(commands, by_sha=self._is_sha_accepted)
        refused = [index for index, reply in enumerate(replies) if _is_sha_refused(reply)]
        if refused and self._is_sha_accepted:
            # Sent whole a script is loaded too, which takes no right and no support of a proxy beyond EVAL.
            self._is_sha_accepted = all(isinstance(replies[index], redis.NoScriptError) for index in refused)
            repeated, memory = await self._pipeline([commands[index] for index in refused], by_sha=False)
            for index, reply in zip(refused, repeated, strict=True):
                replies[index] = reply
        return replies, memory

    async def _pipeline(self, commands: Sequence[ScriptCall], *, by_sha: bool) -> tuple[list[Any], object]:
        # A registered script that is called with a pipeline would cost a second round trip, for SCRIPT EXISTS.
        pipeline = self._client.pipeline(transaction=False)
        for text, arguments in commands:
            if by_sha:
                pipeline.evalsha(self._scripts[text].sha, 1, *arguments)
            else:
                pipeline.eval(text, 1, *arguments)
        pipeline.get(MEMORY_KEY)
        *replies, memory = await pipeline.execute(raise_on_error=False)
        return replies, memory


def make_client(url: str) -> Redis:
    """A client that connects to `url` once. Raises ValueError, without repeating the URL, if it cannot be read."""
    is_connected = False

    async def connect_once(connection: AbstractConnection) -> None:
        # What Redis may have lost with a connection has to be repaired before the next.
        nonlocal is_connected
        if is_connected:
            raise redis.ConnectionError("Connection closed by server.")
        is_connected = True
        await connection.on_connect()

    try:
        options: dict[str, Any] = {
            **parse_url(url),
            "protocol": 2,  # asks least of proxies
            "decode_responses": False,
            "driver_info": None,
            "max_connections": 1,
            "socket_timeout": None,  # the deadline is kept for whole exchanges
            "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "retry": Retry(NoBackoff(), 0),  # repeats would outlast the deadline
            "redis_connect_func": connect_once,
        }
        if "host" in options:
            options["host"] = options["host"].rstrip(".")  # certificates have a fully qualified name without its dot
        ConnectionPool(**options).make_connection()  # type: ignore[no-untyped-call]  # redis-py annotates it not
    except (ValueError, TypeError, redis.RedisError):
        raise ValueError("has an option that is not known, or a wrong value of one") from None
    return Redis.from_pool(ConnectionPool(**options))


class HostTls(ssl.SSLContext):
    """TLS of another context, for a server that has the certificate of `host` but is called by an address."""

    def __init__(self, _protocol: int, context: ssl.SSLContext, host: str) -> None:
        self._context = context
        self._host = host

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *_: object, **__: object) -> ssl.SSLObject:
        """Called by the event loop."""
        return self._context.wrap_bio(incoming, outgoing, server_hostname=self._host)


class AddressConnection(SSLConnection):
    """Connection by TLS to one address of a host."""

    def __init__(self, *, tls_host: str, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = HostTls(ssl.PROTOCOL_TLS_CLIENT, self.ssl_context.get(), tls_host)


async def choose_address(client: Redis) -> None:
    """Let the client connect to the address of its host that accepts first. Raises OSError if none does."""
    pool, options, loop = client.connection_pool, client.connection_pool.connection_kwargs, asyncio.get_running_loop()
    if "host" not in options:
        return
    infos = await loop.getaddrinfo(options["host"], options.get("port", 6379), type=socket.SOCK_STREAM)
    if len(infos) > 1:
        with await start_connection(infos, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS) as accepted:
            if pool.connection_class is SSLConnection:
                pool.connection_class, options["tls_host"] = AddressConnection, options["host"]
            options["host"] = accepted.getpeername()[0]


@asynccontextmanager
async def open_session(url: str, timeout: float) -> AsyncIterator[RedisSession]:
    """A session that runs while it is used. Raises RedisError, OSError or TimeoutError if there can be none."""
    client = make_client(url)
    pool = client.connection_pool
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            await choose_address(client)
            await pool.release(await pool.get_connection())  # type: ignore[no-untyped-call]  # as above
        session = RedisSession(client, timeout)
        running = asyncio.create_task(session.run(), name="claims session")
        try:
            yield session
        finally:
            session.end("the connection was closed")
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    finally:
        await close(client)


async def close(client: Redis) -> None:
    """Close the client's connection; never raises, and ends within CLOSE_TIMEOUT_SECONDS."""
    with suppress(Exception):
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
            await client.aclose()


def _resolve(answer: asyncio.Future[RedisAnswer], value: RedisAnswer) -> None:
    if not answer.done():  # its caller may have been cancelled
        answer.set_result(value)


async def _in_time(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """The result of `work`, or TimeoutError. A reply that a busy event loop did not read yet came in time."""
    task = asyncio.create_task(work)
    try:
        for wait in (seconds - BUSY_LOOP_SECONDS, BUSY_LOOP_SECONDS):
            if (await asyncio.wait((task,), timeout=max(0.0, wait)))[0]:
                return task.result()
        raise TimeoutError
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def describe(error: BaseException) -> str:
    """One clause for a log line, in words of ours: the texts of Redis may repeat a user's name."""
    match error:
        case redis.AuthenticationError():
            return _BAD_CREDENTIALS
        case redis.BusyLoadingError():
            return "Redis is loading its records"
        case TimeoutError() | redis.TimeoutError():
            return "Redis does not answer in time"
        case redis.ResponseError():
            text = _error_reply(error)
            code = text.split(" ", 1)[0]
            other = f"Redis refuses: {code}" if code.isupper() else "Redis refuses"
            return next((meaning for sign, meaning in _REFUSALS if sign in text), other)
        case redis.ConnectionError() | OSError():
            return f"Redis cannot be reached: {error}"[:300]
        case _:
            return f"Redis is not understood: {type(error).__name__}"


def is_of_one_record(error: redis.ResponseError) -> bool:
    """True if only the record that was asked for is unusable: the key holds something that is no record of ours."""
    return any(sign in _error_reply(error) for sign in _ERRORS_OF_ONE_RECORD)


def _is_sha_refused(error: object) -> bool:
    """True if a script has to be sent whole: its text is not loaded, or only EVAL is permitted, or known to a proxy."""
    if isinstance(error, redis.NoScriptError | redis.NoPermissionError):
        return True
    return isinstance(error, redis.ResponseError) and "unknown command" in str(error)


def _error_reply(error: redis.ResponseError) -> str:
    """The reply as Redis sent it: redis-py takes the codes that it knows off the text."""
    code = error.status_code
    return f"{code} {error}" if code else str(error)

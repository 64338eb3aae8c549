"""A client of Redis on redis-py's public interface, and what its errors mean.

An error is described in words of our own: the texts of Redis may repeat a user's name.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from redis import exceptions as redis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

CONNECT_TIMEOUT_SECONDS: Final = 2.0
CLOSE_TIMEOUT_SECONDS: Final = 1.0

_NOT_LET_IN: Final = "Redis does not accept the credentials"
_NOT_PERMITTED: Final = "Redis does not permit these credentials what claims need"

# What stands in an error reply. Redis 6 wraps the errors of a command within a script and leaves their codes inside.
_SIGNS: Final = (
    ("READONLY", "Redis is a replica that must not be written to"),
    ("OOM", "Redis is out of memory"),
    ("MASTERDOWN", "Redis is a replica without its master"),
    ("MOVED", "Redis is a cluster: claims need an endpoint that routes, like a proxy"),
    ("permission", _NOT_PERMITTED),
    ("can't run this command", _NOT_PERMITTED),
)
_OF_ONE_RECORD: Final = ("WRONGTYPE", "attempt to ")


def client_factory(url: str) -> Callable[[], Redis]:
    """How to make a client of one connection to `url`. Raises ValueError, without repeating it, if it is none."""
    # RESP2 asks least of proxies. No repeats: they would outlast the deadline, which is kept for whole exchanges.
    ours: dict[str, Any] = {"protocol": 2, "decode_responses": False, "driver_info": None, "max_connections": 1}
    ours |= {"socket_timeout": None, "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS, "redis_connect_func": None}
    ours |= {"retry": Retry(NoBackoff(), 0)}
    try:
        options: dict[str, Any] = {**parse_url(url), **ours}
        ConnectionPool(**options).make_connection()  # type: ignore[no-untyped-call]  # redis-py annotates it not
    except (ValueError, TypeError, redis.RedisError):
        raise ValueError("has an option that is not known, or a wrong value of one") from None

    def make_client() -> Redis:
        return Redis.from_pool(ConnectionPool(**(options | {"redis_connect_func": _ConnectOnce().connect})))

    return make_client


class _ConnectOnce:
    """Lets a pool connect once: what Redis may have lost with a connection has to be repaired before the next."""

    def __init__(self) -> None:
        self._is_used = False

    async def connect(self, connection: AbstractConnection) -> None:
        """Log in on a connection; raises if it is not the first."""
        if self._is_used:
            raise redis.ConnectionError("Connection closed by server.")
        self._is_used = True
        await connection.on_connect()


async def connect(client: Redis) -> None:
    """Connect and log in. Raises RedisError, OSError or TimeoutError."""
    pool = client.connection_pool
    async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
        await pool.release(await pool.get_connection())  # type: ignore[no-untyped-call]  # as above


async def close(client: Redis) -> None:
    """Close the client's connection; never raises, and ends within CLOSE_TIMEOUT_SECONDS."""
    with suppress(Exception):
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
            await client.aclose()


def describe(error: BaseException) -> str:
    """One clause for a log line, without secrets."""
    match error:
        case redis.AuthenticationError():
            return _NOT_LET_IN
        case redis.BusyLoadingError():
            return "Redis is loading its records"
        case TimeoutError() | redis.TimeoutError():
            return "Redis does not answer in time"
        case redis.ResponseError():
            return _refusal(error)
        case redis.ConnectionError() | OSError():
            return f"Redis cannot be reached: {error}"[:300]
        case _:
            return f"Redis is not understood: {type(error).__name__}"


def _refusal(error: redis.ResponseError) -> str:
    said = _said(error)
    for sign, words in _SIGNS:
        if sign in said:
            return words
    code = said.split(" ", 1)[0]
    return f"Redis refuses: {code}" if code.isupper() else "Redis refuses"


def is_of_one_record(error: redis.ResponseError) -> bool:
    """True if only the record that was asked for is unusable: the key holds something that is no record of ours."""
    return any(sign in _said(error) for sign in _OF_ONE_RECORD)


def is_sha_refused(error: object) -> bool:
    """True if a script has to be sent whole: its text is not loaded, or only EVAL is permitted, or known to a proxy."""
    if isinstance(error, redis.NoScriptError | redis.NoPermissionError):
        return True
    return isinstance(error, redis.ResponseError) and "unknown command" in str(error)


def _said(error: redis.ResponseError) -> str:
    """The reply as Redis sent it: redis-py takes the codes that it knows off the text."""
    code = error.status_code
    return f"{code} {error}" if code else str(error)

"""One attempt at the broker, for commands: each of its nodes once, and a sentence if none can be had."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelInvalidStateError,
    InvalidFrameError,
    ProbableAuthenticationError,
)

from worker.rabbit.connection import (
    CONNECT_TIMEOUT_SECONDS,
    Brokers,
    ConnectionLostError,
    connected,
    connection_loss_as_error,
)

REMEDY: Final = " WORKER_AMQP_URL says which broker it is; `dcs-worker doctor` finds out more."


class UnreachableError(Exception):
    """The broker cannot be had; no line holds a password."""


@asynccontextmanager
async def reached(brokers: Brokers, name: str) -> AsyncIterator[AbstractConnection]:
    """A connection to the first node that lets us in, called `name` there.

    Raises UnreachableError, also when the broker breaks off what is done with the connection, or never answers.
    """
    async with AsyncExitStack() as stack:
        connection = await _first(stack, brokers, name)
        try:
            with connection_loss_as_error():
                yield connection
        except TimeoutError:
            raise UnreachableError("The broker stopped answering.") from None
        except (AMQPError, ChannelInvalidStateError, ConnectionLostError, ConnectionResetError) as error:
            raise UnreachableError(f"The broker broke off: {error}"[:300]) from error


async def _first(stack: AsyncExitStack, brokers: Brokers, name: str) -> AbstractConnection:
    refusals: list[str] = []
    for turn, url in enumerate(brokers.urls):
        try:
            with connection_loss_as_error():
                return await stack.enter_async_context(connected(brokers, turn, name))
        except Exception as error:  # noqa: BLE001 - whatever it was, this node does not let us in
            refusals.append(_refusal(url, error))
    raise UnreachableError("\n".join(refusals) + REMEDY)


_LOGIN: Final = "refuses the user or its password"
_VHOST: Final = "has no such vhost, or does not let this user in"


def _refusal(url: str, error: Exception) -> str:
    """A sentence of a node that cannot be had."""
    address = urlsplit(url).netloc.rpartition("@")[2]
    match error:
        case ProbableAuthenticationError() | AuthenticationError():
            why = _LOGIN
        case InvalidFrameError() if "Connection.OpenOk" in str(error):
            why = _VHOST  # aiormq drops the reason that came in place of the open-ok
        case TimeoutError() | ConnectionLostError():
            why = f"did not answer within {CONNECT_TIMEOUT_SECONDS:g} s"
        case OSError():
            why = f"cannot be reached: {_plain(error)}"
        case _:
            why = f"cannot be used: {type(error).__name__}: {error}"[:300]
    return f"The broker at {address} {why}."


def _plain(error: OSError) -> str:
    # asyncio puts the address, which stands before it already, in place of what the system says.
    if error.errno and "Connect call failed" in str(error.strerror):
        return os.strerror(error.errno)
    return error.strerror or str(error)

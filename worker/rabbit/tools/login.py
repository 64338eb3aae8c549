"""Checks of the broker, first half: who is let in where, and what the broker says of itself.

Law of a check-up: it changes nothing. Each question is asked on a channel of its own, since a refusal closes it.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from shlex import quote
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

from aio_pika.abc import AbstractConnection
from aiormq import Channel
from aiormq import Connection as Underlay
from aiormq.exceptions import AuthenticationError, InvalidFrameError, ProbableAuthenticationError

from worker.policy.diagnostics import Check, Problem, check_version
from worker.rabbit.connection import Brokers, ConnectionLostError, connected, connection_loss_as_error, open_channel

LOGIN_DEADLINE: Final = 6.0
ANSWER_DEADLINE: Final = 5.0
NAME: Final = "dcs-worker doctor"
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class LoginRefused(Problem):
    """It is the login itself that is refused: there is no point in trying the same one elsewhere."""


LoginResult = AbstractConnection | Problem
"""A connection to a node, or what keeps us out."""

T = TypeVar("T")
Ask = Callable[[Channel], Awaitable[T]]


@dataclass(frozen=True, slots=True, repr=False)
class Node:
    """One address of the broker, and who logs in there. The password is kept to tell logins apart."""

    host: str
    port: int
    user: str | None
    """None: the certificate says."""
    password: str
    vhost: str

    @classmethod
    def of(cls, url: str) -> "Node":
        """The node of an AMQP URL, which the configuration has found to be one."""
        parts = urlsplit(url)
        is_external = parts.query == "auth=external"
        user = None if is_external else unquote(parts.username or "guest")
        port = parts.port or (5671 if parts.scheme == "amqps" else 5672)
        vhost = unquote(parts.path[1:]) or "/"
        return cls(parts.hostname or "", port, user, unquote(parts.password or "guest"), vhost)

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    __repr__ = __str__


async def entered(stack: AsyncExitStack, brokers: Brokers, turn: int) -> LoginResult:
    """A connection to the node of that turn, closed with `stack`; tried once."""
    node = Node.of(brokers.urls[turn])
    try:
        with connection_loss_as_error():
            async with asyncio.timeout(LOGIN_DEADLINE):
                return await stack.enter_async_context(connected(brokers, turn, NAME))
    except Exception as error:  # noqa: BLE001 - whatever it was, this node does not let us in
        return _hurdle(node, error)


def version(connection: AbstractConnection, subject: str) -> Check:
    """The version, and the rules that it implies."""
    transport = connection.transport
    underlay = transport.connection if transport is not None else None
    said = underlay.server_properties if isinstance(underlay, Underlay) else {}
    return check_version(str(said.get("product", "")), str(said.get("version", "")), subject)


async def answer(connection: AbstractConnection, ask: Ask[T]) -> T | Exception:
    """What the broker answers to one question; its refusal, or TimeoutError, as a value."""
    try:
        with connection_loss_as_error():
            async with asyncio.timeout(ANSWER_DEADLINE), open_channel(connection) as channel:
                return await ask(channel)
    except ConnectionLostError:
        return TimeoutError()
    except Exception as error:  # noqa: BLE001 - the answer is what is asked for, whatever it is
        return error


def lost(error: Exception) -> Problem:
    """An answer that is none."""
    if isinstance(error, TimeoutError):
        found = f"the broker does not answer within {ANSWER_DEADLINE:g} s"
    else:
        found = f"the broker broke off: {type(error).__name__}: {error}"[:300]
    return Problem(found, "look at the broker: `rabbitmq-diagnostics check_running` and `rabbitmq-diagnostics alarms`")


def _hurdle(node: Node, error: Exception) -> Problem:
    match error:
        case ProbableAuthenticationError() | AuthenticationError():
            return LoginRefused(f"login: the broker refuses {_login(node)}", _login_remedy(node))
        case InvalidFrameError() if "Connection.OpenOk" in str(error):
            # aiormq drops the reason that came in place of the open-ok.
            found = f"vhost: there is no {node.vhost!r}, or {node.user or 'this user'} may not enter it"
            return Problem(found, f"rabbitmqctl add_vhost {quote(node.vhost)}; {permit(node, '.*', '.*', '.*')}")
        case TimeoutError() | ConnectionLostError():
            found = "AMQP: connected, but the broker does not speak in time: it may be starting, or out of memory"
            return Problem(found, "on the broker: `rabbitmq-diagnostics check_running`; then correct WORKER_AMQP_URL")
        case _ if any(isinstance(cause, ssl.SSLError) for cause in _causes(error)):
            found = f"TLS: the broker breaks off: {error}"[:300]
            return Problem(found, "set WORKER_AMQP_CERT_FILE and WORKER_AMQP_KEY_FILE to a certificate that it trusts")
        case _:
            found = f"AMQP: connected, but it cannot be used: {type(error).__name__}: {error}"[:300]
            return Problem(found, "correct scheme and port in WORKER_AMQP_URL: amqp:// is 5672, amqps:// is 5671")


def permit(node: Node, configure: str, write: str, read: str) -> str:
    """The command that gives the user these rights, in place of those that it has."""
    rights = " ".join(map(quote, (configure, write, read)))
    return f"rabbitmqctl set_permissions -p {quote(node.vhost)} {quote(node.user or 'USER')} {rights}"


def _login(node: Node) -> str:
    return f"the user {node.user!r} or its password" if node.user is not None else "the client's certificate as login"


def _login_remedy(node: Node) -> str:
    if node.user is None:
        return "enable rabbitmq_auth_mechanism_ssl, and add a user called like the certificate (ssl_cert_login_from)"
    if node.user == "guest" and node.host not in _LOOPBACK:
        return "put another user into WORKER_AMQP_URL: guest may log in only from the broker's own machine"
    return f"correct WORKER_AMQP_URL; on the broker: rabbitmqctl authenticate_user {quote(node.user)} tries a password"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 10:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1

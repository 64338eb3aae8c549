"""Access of commands to the broker: each node is tried once, and every error is a sentence for an operator."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from shlex import quote
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from aio_pika.abc import AbstractConnection
from aiormq import Channel
from aiormq import Connection as Underlay
from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelAccessRefused,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    DeliveryError,
    ProbableAuthenticationError,
    PublishError,
)
from pamqp.commands import Basic

from worker.policy.diagnostics import Check, FailureKind, Problem, check_version, failed, ok, tls_remedy
from worker.rabbit.connection import (
    CONNECT_TIMEOUT_SECONDS,
    Brokers,
    ConnectionLostError,
    connected,
    connection_loss_as_error,
    open_channel,
)
from worker.rabbit.failure_reasons import BrokerRefusedError, reason_in_words, tls_error
from worker.rabbit.publishing import ConfirmChannel

ANSWER_TIMEOUT_SECONDS: Final = 5.0
CONFIRM_TIMEOUT_SECONDS: Final = 30.0
_REMEDY: Final = " WORKER_AMQP_URL says which broker it is; `dcs-worker doctor` finds out more."
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

T = TypeVar("T")


class BrokerError(Exception):
    """The broker does not do what a command asked for; the text is for an operator and holds no password."""


class LoginRefused(Problem):
    """The broker refuses the login itself: there is no point in trying the same one at another node."""


LoginResult = AbstractConnection | Problem
"""A connection to a node, or what prevents it."""


@dataclass(frozen=True, slots=True, repr=False)
class Node:
    """One address of the broker, and the user who logs in there. The password is kept to tell logins apart."""

    host: str
    port: int
    user: str | None
    """None: the broker reads it from the client certificate."""
    password: str
    vhost: str

    @classmethod
    def of(cls, url: str) -> "Node":
        """The node of an AMQP URL that the configuration has validated."""
        parts = urlsplit(url)
        is_external = "auth=external" in parts.query.split("&")
        user = None if is_external else unquote(parts.username or "guest")
        port = parts.port or (5671 if parts.scheme == "amqps" else 5672)
        vhost = unquote(parts.path[1:]) or "/"
        return cls(parts.hostname or "", port, user, unquote(parts.password or "guest"), vhost)

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    __repr__ = __str__


@asynccontextmanager
async def open_connection(brokers: Brokers, name: str) -> AsyncIterator[AbstractConnection]:
    """A connection to the first node that accepts it, called `name` there.

    Raises BrokerError, also when the broker breaks off what is done with the connection, or never answers.
    """
    async with AsyncExitStack() as stack:
        connection = await _connect_to_first(stack, brokers, name)
        try:
            with connection_loss_as_error():
                yield connection
        except TimeoutError:
            raise BrokerError("The broker stopped answering.") from None
        except (AMQPError, ChannelInvalidStateError, ConnectionLostError, ConnectionResetError) as error:
            raise BrokerError(f"The broker closed the connection: {reason_in_words(error)}") from error


async def _connect_to_first(stack: AsyncExitStack, brokers: Brokers, name: str) -> AbstractConnection:
    sentences: list[str] = []
    for index, url in enumerate(brokers.urls):
        login = await log_in(stack, brokers, index, name, CONNECT_TIMEOUT_SECONDS)
        if not isinstance(login, Problem):
            return login
        sentences.append(f"Broker {Node.of(url)}: {login.found}.")
    raise BrokerError("\n".join(sentences) + _REMEDY)


def refusal(error: Exception, action: str, target: str, lost: str) -> BrokerError:
    """What an error means that ended `action` (`read`, `publish to`) on `target`; `lost` is for a lost connection."""
    declare = "start a worker, or declare it with `dcs-worker topology apply`"
    match error:
        case PublishError():
            return BrokerError(f"What is published to the {target} reaches no queue: {declare}.")
        case ChannelNotFoundEntity():
            return BrokerError(f"The {target} does not exist: {declare}.")
        case DeliveryError():
            full = f"The broker refused a message for the {target}: a queue takes none at the moment."
            return BrokerError(f"{full} Remove the policy that limits it: `rabbitmqctl list_policies`.")
        case ChannelAccessRefused():
            rights = "deploy/rabbitmq/README.md has the rights of senders and operators"
            return BrokerError(f"The broker does not let this user {action} the {target}: {rights}.")
        case TimeoutError():
            unconfirmed = f"The broker did not confirm a message within {CONFIRM_TIMEOUT_SECONDS:g} s"
            return BrokerError(f"{unconfirmed}: a memory or disk alarm may be on; `dcs-worker doctor` finds out.")
        case _:
            return BrokerError(f"{lost} ({reason_in_words(error)})")


async def log_in(stack: AsyncExitStack, brokers: Brokers, index: int, name: str, timeout_seconds: float) -> LoginResult:
    """A connection to the node of this index, called `name` there, closed with `stack`; tried once."""
    try:
        with connection_loss_as_error():
            async with asyncio.timeout(timeout_seconds):
                return await stack.enter_async_context(connected(brokers, index, name))
    except Exception as error:  # noqa: BLE001 - for any reason: this node accepts no connection
        return _problem(Node.of(brokers.urls[index]), error)


def _problem(node: Node, error: Exception) -> Problem:
    match error:
        case ProbableAuthenticationError() | AuthenticationError():
            login = f"the user {node.user!r} or its password" if node.user else "the client's certificate as login"
            return LoginRefused(f"login: the broker refuses {login}: {reason_in_words(error)}", _login_remedy(node))
        case BrokerRefusedError():
            sentence = reason_in_words(error)
            return Problem(f"vhost: the broker refuses the connection: {sentence}", _refusal_remedy(node, sentence))
        case TimeoutError() | ConnectionLostError():
            found = "AMQP: the broker does not answer in time: it may be starting, or out of memory"
            return Problem(found, "on the broker: `rabbitmq-diagnostics check_running`; then correct WORKER_AMQP_URL")
        case _ if (tls := tls_error(error)) is not None:
            return Problem(reason_in_words(error), tls_remedy(tls, "WORKER_AMQP_URL"))
        case OSError():
            found = f"it cannot be reached: {reason_in_words(error)}"
        case _:
            found = f"AMQP: connected, but it cannot be used: {reason_in_words(error)}"
    return Problem(found, "correct host, scheme and port in WORKER_AMQP_URL: amqp:// is 5672, amqps:// is 5671")


def _login_remedy(node: Node) -> str:
    if node.user is None:
        return "enable rabbitmq_auth_mechanism_ssl, and add a user called like the certificate (ssl_cert_login_from)"
    if node.user == "guest" and node.host not in _LOOPBACK:
        return "put another user into WORKER_AMQP_URL: guest may log in only from the broker's own machine"
    return f"correct WORKER_AMQP_URL; on the broker: rabbitmqctl authenticate_user {quote(node.user)} tries a password"


def _refusal_remedy(node: Node, sentence: str) -> str:
    """What helps, as far as the broker's sentence says it; rights are not widened on a guess."""
    vhost = quote(node.vhost)
    if "not found" in sentence:
        return f"correct the vhost in WORKER_AMQP_URL, or create it: rabbitmqctl add_vhost {vhost}"
    if "limit" in sentence:
        return (
            "close connections, or raise the limit: rabbitmqctl list_connections, list_vhost_limits, list_user_limits"
        )
    if "access" in sentence:
        return f"give the user the rights of deploy/rabbitmq; present ones: rabbitmqctl list_permissions -p {vhost}"
    return "the broker's log says more"


def broker_version(connection: AbstractConnection, subject: str) -> Check:
    """The version, and the rules that it implies."""
    transport = connection.transport
    underlay = transport.connection if transport is not None else None
    announced = underlay.server_properties if isinstance(underlay, Underlay) else {}
    return check_version(str(announced.get("product", "")), str(announced.get("version", "")), subject)


async def check_publishing(connection: AbstractConnection, subject: str) -> Check:
    """Whether the broker takes messages: an alarm for memory or disk blocks every connection that publishes.

    The messages reach no queue, so the broker confirms and drops them. It takes the first one and blocks then, so the
    second one tells. Ask nothing more on this connection.
    """
    name, alarms = "publishing", "on the broker: `rabbitmq-diagnostics alarms`; free memory or disk space there"
    try:
        async with open_channel(connection, confirms=True) as channel:
            confirms = ConfirmChannel(channel, timeout_seconds=ANSWER_TIMEOUT_SECONDS)
            for _ in range(2):
                await confirms.publish(b"", Basic.Properties(), routing_key=f"dcs-worker.doctor.{uuid4().hex}")
    except ChannelAccessRefused:
        found = "this user may not publish to the default exchange, which the worker needs for retries and replies"
        return failed(
            name, found, "dcs-worker topology --format rabbitmq-permissions prints the rights", subject=subject
        )
    except TimeoutError:
        found = f"no message is confirmed within {ANSWER_TIMEOUT_SECONDS:g} s: a memory or disk alarm blocks publishing"
        return failed(name, found, alarms, subject=subject, failure_kind=FailureKind.UNREACHABLE)
    except Exception as error:  # noqa: BLE001 - the refusal is the answer
        problem = no_answer(error)
        return failed(name, problem.found, problem.remedy, subject=subject, failure_kind=FailureKind.UNREACHABLE)
    return ok(name, "messages are accepted and confirmed: no memory or disk alarm", subject=subject)


async def ask(connection: AbstractConnection, question: Callable[[Channel], Awaitable[T]]) -> T | Exception:
    """What the broker answers to one question; its refusal, or TimeoutError, as a value.

    Each question has a channel to itself, since a refusal closes it.
    """
    try:
        with connection_loss_as_error():
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS), open_channel(connection) as channel:
                return await question(channel)
    except ConnectionLostError:
        return TimeoutError()
    except Exception as error:  # noqa: BLE001 - the refusal is the answer
        return error


def no_answer(error: Exception) -> Problem:
    """The problem of a question that the broker did not answer."""
    if isinstance(error, TimeoutError):
        found = f"the broker does not answer within {ANSWER_TIMEOUT_SECONDS:g} s"
    else:
        found = f"the broker closed the channel or the connection: {reason_in_words(error)}"
    return Problem(found, "look at the broker: `rabbitmq-diagnostics check_running` and `rabbitmq-diagnostics alarms`")

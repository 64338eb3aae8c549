"""Reasons in words: the broker's own sentence, the system's, never a representation of an object."""

import asyncio
import socket
import ssl

import pytest
from aiormq.exceptions import (
    AMQPConnectionError,
    AuthenticationError,
    ChannelClosed,
    ChannelInvalidStateError,
    ConnectionClosed,
    ConnectionNotAllowed,
    InvalidFrameError,
    ProbableAuthenticationError,
)

from worker.rabbit.connection import ConnectionLostError
from worker.rabbit.failure_reasons import BrokerRefusedError, closing_reason, reason_in_words

REFUSED = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN"
FORCED = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"


def caused(error: Exception, cause: Exception) -> Exception:
    """The error, raised from its cause as aiormq does."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ProbableAuthenticationError(f"{REFUSED}."), REFUSED),
        (BrokerRefusedError("NOT_ALLOWED - vhost nowhere not found"), "NOT_ALLOWED - vhost nowhere not found"),
        (ConnectionClosed(320, FORCED), FORCED),
        (ConnectionNotAllowed("NOT_ALLOWED - node is full"), "NOT_ALLOWED - node is full"),
        (ChannelClosed(406, "PRECONDITION_FAILED - timeout"), "PRECONDITION_FAILED - timeout"),
        (ChannelInvalidStateError('<Channel: "2" at 0x7f7c8982bd90> closed'), "the channel was closed"),
        (InvalidFrameError("got <Connection.Close object at 0x7f411662b2f0>"), "got an object"),
        (RuntimeError('<Channel: "2" at 0x7f7c8982bd90> closed'), "RuntimeError: an object closed"),
        (TimeoutError(), "the broker does not answer"),
        (ConnectionLostError("the connection is stuck"), "the connection is stuck"),
        (AMQPConnectionError(111, "Connect call failed ('127.0.0.1', 5672)"), "Connection refused"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 111]"), "Connection refused"),
        (ConnectionResetError(104, "Connection reset by peer"), "Connection reset by peer"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (AuthenticationError("EXTERNAL", ["PLAIN"]), "does not offer the login mechanism that is configured"),
        (ValueError("odd"), "ValueError: odd"),
        (KeyError(), "KeyError"),
    ],
)
def test_reason_has_the_words_of_whoever_refused(error: Exception, words: str) -> None:
    """No number of AMQP, no representation, no address of an object."""
    reason = reason_in_words(error)
    assert reason.endswith(words)
    assert " at 0x" not in reason


def test_cause_says_more_than_the_library() -> None:
    """aiormq raises its own errors from those of TLS and of the socket."""
    cut = caused(AMQPConnectionError("Server connection unexpectedly closed"), asyncio.IncompleteReadError(b"", 1))
    assert reason_in_words(cut) == "the broker closed the connection without a reason"
    expired = ssl.SSLCertVerificationError("certificate verify failed")
    expired.verify_code, expired.verify_message = 10, "certificate has expired"
    rejected = caused(AMQPConnectionError(1, "[SSL] x"), expired)
    assert reason_in_words(rejected) == "TLS: certificate rejected: certificate has expired"


def test_long_reason_is_cut() -> None:
    """Whatever a broker sends."""
    assert len(reason_in_words(ConnectionClosed(320, "x" * 5000))) == 300


def test_ring_of_causes_ends() -> None:
    """Python allows an exception to be its own cause by way of another one."""
    first, second = ValueError("1"), ValueError("2")
    first.__cause__, second.__cause__ = second, first
    assert reason_in_words(first) == "ValueError: 1"


async def test_closed_channel_keeps_the_sentence() -> None:
    """Cancelled, closed on purpose, without a reason, and by the broker."""
    futures: list[asyncio.Future[object]] = [asyncio.get_running_loop().create_future() for _ in range(4)]
    futures[0].cancel()
    futures[1].set_result(None)
    futures[2].set_exception(Exception())
    futures[3].set_exception(ConnectionClosed(320, FORCED))
    assert [closing_reason(future) for future in futures] == [
        *["the channel was closed"] * 3,
        f"the channel was closed: {FORCED}",
    ]

"""Reasons of lost connections and channels, in words: the broker's own sentence where it sent one.

aiormq's exceptions hold Python representations, numbers and addresses of objects; an operator needs the sentence.
"""

import asyncio
import os
import re
import ssl
from typing import Final

from aiormq.exceptions import AMQPError, AuthenticationError, ChannelInvalidStateError

from worker.policy.diagnostics import tls_words

MAX_REASON_CHARACTERS: Final = 300
CHANNEL_CLOSED: Final = "the channel was closed"
FIRST_CODE_OF_AMQP: Final = 200
_KNOWN: Final = {
    TimeoutError: "the broker does not answer",
    ChannelInvalidStateError: CHANNEL_CLOSED,
    AuthenticationError: "the broker does not offer the login mechanism that is configured",
    asyncio.IncompleteReadError: "the broker closed the connection without a reason",
}
_MAX_CAUSES: Final = 10
"""A chain of exceptions can be a ring."""
_ADDRESS: Final = re.compile(r"<[^<>]*(?:\"[^\"]*\"[^<>]*)? at 0x[0-9a-fA-F]+>")
_ERRNO: Final = re.compile(r"\[Errno (\d{1,4})\]")


class BrokerRefusedError(ConnectionError):
    """The broker closed the connection before it was open; the text is its own sentence."""


def reason_in_words(error: BaseException) -> str:
    """Why a connection or channel is lost, or could not be opened."""
    return (_words(error).rstrip(".") or type(error).__name__)[:MAX_REASON_CHARACTERS]


def closing_reason(closed: "asyncio.Future[object]") -> str:
    """Why a channel was closed, from its `closing`."""
    error = None if closed.cancelled() else closed.exception()
    if error is None or isinstance(error, asyncio.CancelledError) or type(error) is Exception:
        return CHANNEL_CLOSED
    return f"{CHANNEL_CLOSED}: {reason_in_words(error)}"


def tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """The error of TLS that is behind another one, if there is one."""
    for _ in range(_MAX_CAUSES):
        if error is None or isinstance(error, ssl.SSLError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _words(error: BaseException) -> str:
    if (tls := tls_error(error)) is not None:
        return f"TLS: {tls_words(tls)}"
    for kind, words in _KNOWN.items():
        if isinstance(error, kind) or isinstance(error.__cause__, kind):
            return words
    if isinstance(error, OSError) and (words := _words_of_system(error)):
        return words
    is_sentence = isinstance(error, AMQPError | ConnectionError) and bool(error.args)
    # Code and sentence, which begins with the name of the code (ACCESS_REFUSED - ...).
    text = " ".join(_ADDRESS.sub("an object", str(error.args[-1] if is_sentence else error)).split())
    return text if is_sentence else f"{type(error).__name__}: {text}".removesuffix(": ")


def _words_of_system(error: OSError) -> str:
    """The system's words for its number, also if there are several: one for each address of the host."""
    match = _ERRNO.search(str(error))
    number = int(match[1]) if match else 0
    if 0 < number < FIRST_CODE_OF_AMQP:
        return os.strerror(number)
    return "" if isinstance(error, AMQPError) else error.strerror or ""

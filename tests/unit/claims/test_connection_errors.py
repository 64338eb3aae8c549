"""What errors of Redis mean, and which URLs are refused."""

import pytest
from redis import exceptions as redis

from worker.claims.connection import describe, is_of_one_record, make_client


def refused(text: str) -> redis.ResponseError:
    """An error reply as redis-py raises it."""
    code, _, rest = text.partition(" ")
    kinds = {"READONLY": redis.ReadOnlyError, "OOM": redis.OutOfMemoryError, "NOPERM": redis.NoPermissionError}
    if code in kinds or code == "ERR":
        return kinds.get(code, redis.ResponseError)(rest, status_code=code)
    return redis.ResponseError(text)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (redis.AuthenticationError("user secret is disabled"), "Redis does not accept the credentials"),
        (redis.BusyLoadingError("Redis is loading"), "Redis is loading its records"),
        (refused("READONLY You can't write"), "Redis is a replica that must not be written to"),
        (refused("ERR Error running script (f): @user_script: 1: -READONLY You"), "Redis is a replica that must not"),
        (refused("OOM command not allowed"), "Redis is out of memory"),
        (refused("ERR Error running script: -OOM command not allowed"), "Redis is out of memory"),
        (refused("NOPERM User secret has no permissions to run"), "Redis does not permit these credentials"),
        (refused("ERR The user secret can't run this command"), "Redis does not permit these credentials"),
        (refused("MOVED 3999 127.0.0.1:6381"), "Redis is a cluster"),
        (refused("MISCONF secret"), "Redis refuses: MISCONF"),
        (refused("Odd secret"), "Redis refuses"),
        (TimeoutError("secret"), "Redis does not answer in time"),
        (redis.TimeoutError("secret"), "Redis does not answer in time"),
        (ConnectionRefusedError(111, "Connection refused"), "Redis cannot be reached: [Errno 111] Connection refused"),
        (redis.ConnectionError("Connection closed by server."), "Redis cannot be reached: Connection closed by"),
        (RuntimeError("secret"), "Redis is not understood: RuntimeError"),
    ],
)
def test_an_error_describe(error: Exception, words: str) -> None:
    """The reason names the remedy, and never repeats what may be a user's name."""
    assert describe(error).startswith(words)
    assert "secret" not in describe(error)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("WRONGTYPE Operation against a key holding the wrong kind of value", True),
        ("ERR user_script:3: attempt to compare nil with number", True),
        ("ERR Error running script: @user_script:1: WRONGTYPE Operation", True),
        ("READONLY You can't write against a read only replica.", False),
        ("OOM command not allowed when used memory > 'maxmemory'.", False),
        ("BUSY Redis is busy running a script.", False),
    ],
)
def test_which_errors_concern_one_record(text: str, is_one: bool) -> None:
    """Only an odd record is passed over; anything else says something of Redis itself."""
    assert is_of_one_record(refused(text)) is is_one


@pytest.mark.parametrize(
    "url",
    [
        "redis://app:secret@127.0.0.1:6379/0?colour=secret",
        "redis://app:secret@127.0.0.1:6379/0?db=secret",
        "redis://app:secret@127.0.0.1:secret/0",
        "http://app:secret@127.0.0.1/",
    ],
)
def test_a_url_that_cannot_be_read(url: str) -> None:
    """A wrong option or address is refused before anything is connected, and not repeated."""
    with pytest.raises(ValueError, match="option") as caught:
        make_client(url)
    assert (
        "secret" not in f"{caught.value!r} {caught.value.__context__ if not caught.value.__suppress_context__ else ''}"
    )

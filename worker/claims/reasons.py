"""Why Redis is of no use, in words of our own: its error texts may repeat a user's name."""

from typing import Final

from redis import exceptions as redis

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


def in_words(error: BaseException) -> str:
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


def _said(error: redis.ResponseError) -> str:
    """The reply as Redis sent it: redis-py takes the codes that it knows off the text."""
    code = error.status_code
    return f"{code} {error}" if code else str(error)

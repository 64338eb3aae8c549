"""Claims without Redis: what replies and errors mean, and what is written to the wire."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions as redis
from redis.asyncio.connection import Connection

from schemas.request import Task
from worker.claims import answers, scripts
from worker.claims.claims import RedisClaims
from worker.claims.reasons import in_words, is_of_one_record
from worker.claims.wire import NoAnswer, Reply, dial
from worker.policy.claim import ClaimAnswer, Concluded, Granted, Held, Unavailable
from worker.policy.order import Order
from worker.policy.outcome import Ending

ORDER = Order(
    project_id="0123456789abcdef",
    request_id="r-1",
    region="cn-north-4",
    task=Task(name="n", vpc_id="v", subnet_id="s", security_group_id="g"),
    marker=None,
    fingerprint="f" * 32,
    not_after=None,
    body=b"{}",
    is_named=True,
)
ENDING = Ending(
    succeeded=False,
    reason="rejected",
    event_id="e",
    subject="r-1",
    completed_at="2026-12-01T00:00:00.000Z",
    body='{"name": "é"}'.encode(),
    parked=False,
    fingerprint="f" * 32,
    replays=1,
)
COMPLETED_AT = 1796083200.0


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (b"new", Granted(is_first=True)),
        (b"free ", Granted(is_first=False)),
        (b"free 17.25", Granted(is_first=False, last_sent_at=17.25)),
        (b"lost", Granted(is_first=False, last_sent_at=99.0)),
        (b"reopened " + answers.written(ENDING), Granted(is_first=False, last_sent_at=COMPLETED_AT)),
        (b"held " + b"f" * 32, Held("f" * 32)),
        (b"concluded " + answers.written(ENDING), Concluded(ENDING)),
        (b"concluded {}", Unavailable()),
        (b"concluded []", Unavailable()),
        (b"concluded null", Unavailable()),
        (b"reopened ", Unavailable()),
        (b"free soon", Unavailable()),
        (b"what", Unavailable()),
        (b"", Unavailable()),
        (None, Unavailable()),
        (1, Unavailable()),
        (NoAnswer("away"), Unavailable()),
    ],
)
def test_what_a_reply_answers(reply: Reply, answer: ClaimAnswer) -> None:
    """Every reply of a take, and everything that is none."""
    assert answers.answer(reply, 99.0, is_remembered=True) == answer


def test_a_new_request_is_first_only_by_a_good_memory() -> None:
    """A Redis that may have forgotten the request does not make it the first."""
    assert answers.answer(b"new", 99.0, is_remembered=False) == Granted(is_first=False)


@given(st.sampled_from([b"free", b"held", b"concluded", b"reopened", b""]), st.binary(max_size=60))
def test_no_reply_raises(word: bytes, rest: bytes) -> None:
    """Whatever stands in Redis, a take has an answer."""
    assert isinstance(answers.answer(word + b" " + rest, 99.0, is_remembered=True), ClaimAnswer)


@pytest.mark.parametrize(
    ("reply", "is_remembered"),
    [
        (b"400.5", True),
        (b"400.6", False),
        (b"2000", False),
        (None, False),
        (b"?", False),
        (NoAnswer("away"), False),
    ],
)
def test_how_long_redis_remembers(reply: Reply, is_remembered: bool) -> None:
    """The memory must be as old as is asked for; a missing or unreadable one is new."""
    assert answers.is_remembered(reply, 1000.5, 600.0) is is_remembered


def test_without_doubt_a_clock_ahead_of_ours_does_not_matter() -> None:
    """Nought seconds of memory are always there."""
    assert answers.is_remembered(b"1003", 1000.0, 0.0)


def test_an_ending_is_stored_as_json() -> None:
    """What is stored can be read by any JSON reader, the event in it as text."""
    assert json.loads(answers.written(ENDING))["body"] == '{"name": "é"}'


def test_the_key_of_a_record() -> None:
    """A record is placed by project and request id, which stand in its key."""
    assert scripts.record_key(ORDER) == b"dcs-worker:{0123456789abcdef/r-1}"


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=6))
def test_a_script_is_written_as_redis_py_writes_it(parts: list[bytes]) -> None:
    """The command is the same bytes as redis-py's own for EVAL with one key."""
    packed = Connection().pack_command("EVAL", "return KEYS[1]", 1, *parts)
    assert scripts.Script("return KEYS[1]")(*parts) == b"".join(packed)


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
def test_an_error_in_words(error: Exception, words: str) -> None:
    """The reason names the remedy, and never repeats what may be a user's name."""
    assert in_words(error).startswith(words)
    assert "secret" not in in_words(error)


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
        dial(url)
    assert (
        "secret" not in f"{caught.value!r} {caught.value.__context__ if not caught.value.__suppress_context__ else ''}"
    )


async def test_claims_that_were_not_started_are_away() -> None:
    """Without a connection every take is answered at once, and nothing of the URL is shown."""

    class Deaf:
        """An observer that must not be told anything."""

        def claims_available(self, is_available: bool, reason: str) -> None:
            raise AssertionError(reason)

        def claims_doubted(self, seconds: float) -> None:
            raise AssertionError(seconds)

    claims = RedisClaims("redis://app:secret@127.0.0.1:1/0", Deaf())
    assert await claims.take(ORDER, 99.0) == Unavailable()
    assert repr(claims) == "<RedisClaims: away, 1 claims>"
    await claims.conclude(ORDER, ENDING)
    assert repr(claims) == "<RedisClaims: away, 0 claims>"
    await claims.aclose()

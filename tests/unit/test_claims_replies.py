"""Replies of Redis are read whole, however they come."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, NoScriptError, ReadOnlyError, ResponseError

from worker.claims.replies import Replies

BULK = st.binary(max_size=50).map(lambda content: (b"$%d\r\n%b\r\n" % (len(content), content), content))
NUMBER = st.integers(-(2**63), 2**63 - 1).map(lambda number: (b":%d\r\n" % number, number))
KINDS = st.one_of(BULK, NUMBER, st.sampled_from([(b"$-1\r\n", None), (b"+OK\r\n", b"OK"), (b"$0\r\n\r\n", b"")]))


def replies(pieces: Sequence[bytes]) -> Replies:
    """Replies of a connection that brings these pieces, one by one, and is closed then."""
    reader = asyncio.StreamReader()
    coming = iter(pieces)

    def bring() -> None:
        if (piece := next(coming, None)) is None:
            reader.feed_eof()
            return
        reader.feed_data(piece)
        asyncio.get_running_loop().call_soon(bring)

    bring()
    return Replies(reader, Connection()._parser.parse_error)


@given(st.lists(KINDS, min_size=1, max_size=6), st.integers(1, 40))
async def test_replies_are_read_in_order_whatever_their_pieces(sent: list[tuple[bytes, object]], size: int) -> None:
    """Binary content, its length and the ends of lines may be cut anywhere."""
    content = b"".join(written for written, _ in sent)
    made = replies([content[at : at + size] for at in range(0, len(content), size)])
    assert [await made.read() for _ in sent] == [expected for _, expected in sent]
    with pytest.raises(RedisConnectionError):
        await made.read()


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"-READONLY You can't write", ReadOnlyError),
        (b"-NOSCRIPT No matching script", NoScriptError),
        (b"-WRONGTYPE Operation against a key", ResponseError),
        (b"*1", InvalidResponse),
    ],
)
async def test_errors_are_those_of_redis_py(said: bytes, error: type[Exception]) -> None:
    """What Redis refuses is raised as redis-py would, and so is what is no reply of ours; the next one is read."""
    made = replies([said + b"\r\n:7\r\n"])
    with pytest.raises(error):
        await made.read()
    assert await made.read() == 7

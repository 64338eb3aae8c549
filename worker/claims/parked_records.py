"""Records of parked requests in Redis, deleted by the commands that replay or drop the requests.

Short on purpose: it is what one command needs. Without it a copy would be answered "parked" until the record expires.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from redis.exceptions import RedisError

from worker.claims.connection import NoReply, describe, open_session
from worker.claims.scripts import FORGET, ScriptCall, record_key
from worker.policy.migration_request import MigrationRequest
from worker.policy.outcome import ClaimsAwayError

TIMEOUT_SECONDS = 3.0


@asynccontextmanager
async def parked_records(url: str) -> AsyncIterator[Callable[[MigrationRequest, int], Awaitable[None]]]:
    """A function that deletes the record of a request that was parked after at most so many replays, and no other.

    This and the function raise ClaimsAwayError.
    """
    try:
        async with open_session(url, TIMEOUT_SECONDS) as session:

            async def forget(migration: MigrationRequest, replays: int) -> None:
                reply, _ = await session.ask(ScriptCall(FORGET, (record_key(migration), b"", b"%d" % replays)))
                if isinstance(reply, NoReply):
                    raise ClaimsAwayError(reply.reason)

            yield forget
    except (RedisError, OSError, TimeoutError) as error:
        raise ClaimsAwayError(describe(error)) from None

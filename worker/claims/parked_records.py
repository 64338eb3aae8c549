"""Records of requests in Redis for commands: read by `explain`, deleted by those that replay or drop parked requests.

If they were not deleted, a copy would be answered "parked" until the record expires. Reading changes nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from redis.exceptions import RedisError

from worker.claims.connection import NoReply, close, describe, make_client, open_session
from worker.claims.records import read_ending
from worker.claims.scripts import FORGET, ScriptCall, record_key
from worker.policy.migration_request import MigrationRequest
from worker.policy.outcome import ClaimsAwayError, Completed

TIMEOUT_SECONDS = 3.0
_FIELDS = ("fingerprint", "ending", "succeeded", "replays", "token", "until", "sent")


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """What Redis knows of a request: how it ended, else the state of its claim."""

    ending: Completed | None
    state: Literal["ended", "claimed", "claim expired", "released", "not readable"]
    last_sent_at: float | None = None
    """When a create may last have been in flight; None if that is unknown, or never."""


async def read_record(url: str, migration: MigrationRequest, now: float) -> RequestRecord | None:
    """The record of a request, of which its ids are needed only; None if there is none. Raises ClaimsAwayError."""
    try:
        client = make_client(url)
    except ValueError as error:
        raise ClaimsAwayError(f"the URL {error}") from None
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            found = await client.hmget(record_key(migration), _FIELDS)
            server_seconds, _ = await client.time()
    except (RedisError, OSError, TimeoutError) as error:
        raise ClaimsAwayError(describe(error)) from None
    finally:
        await close(client)
    values = (value if isinstance(value, bytes) else None for value in found)
    fingerprint, ending, succeeded, replays, token, until, sent = values
    if fingerprint is None:
        return None
    try:
        last_sent_at = float(sent) if sent else None
        if ending is not None:
            stored = b" ".join((fingerprint, succeeded or b"", replays or b"0", ending))
            completed = read_ending(stored, migration, now)
            return RequestRecord(completed, "ended" if completed else "not readable")
        if token is None:
            return RequestRecord(None, "released", last_sent_at)
        is_held = float(until or 0) / 1000 > server_seconds
        return RequestRecord(None, "claimed" if is_held else "claim expired", last_sent_at)
    except ValueError:
        return RequestRecord(None, "not readable")


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

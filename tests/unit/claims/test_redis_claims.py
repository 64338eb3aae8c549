"""Claims whose Redis is away, of no use, or silent, and an outcome that is stored there and does not answer."""

import asyncio
import time
from dataclasses import replace

import pytest

from schemas.envelope import Envelope
from schemas.event import Reason
from tests.fakes.addresses import first_address_swallows
from tests.unit.claims.sample_migration import MIGRATION
from tests.unit.claims.small_redis import MEMORY, answering, bulk, listening
from worker.claims import scripts
from worker.claims.records import encode_ending
from worker.claims.redis_claims import RedisClaims
from worker.pipeline import final_events
from worker.policy.outcome import Completed, Concluded, Granted, Unavailable

NOW = 1_795_000_100.0
REDELIVERED = Envelope.read({}, redelivered=True, now=99.0)
ENDING = Completed(
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


def test_the_key_of_a_record() -> None:
    """A record is placed by project and request id, which stand in its key."""
    assert scripts.record_key(MIGRATION) == b"dcs-worker:{0123456789abcdef/r-1}"


class RecordingObserver:
    """An observer that remembers when claims became available or not; nothing else may be reported."""

    def __init__(self) -> None:
        self.changes: list[tuple[bool, str]] = []

    def claims_available(self, is_available: bool, reason: str) -> None:
        """Redis can be used, or not any more."""
        self.changes.append((is_available, reason))

    def claims_doubted(self, seconds: float) -> None:
        """Redis is new."""
        raise AssertionError(seconds)

    def claims_memory_used(self, ratio: float | None) -> None:
        """Redis told how full it is."""
        assert ratio == 0.25

    def claims_record_doubted(self, project_id: str, request_id: str) -> None:
        """A record was replaced."""
        raise AssertionError(request_id)


async def test_claims_that_were_not_started_are_away() -> None:
    """Without a connection every take is answered at once, and nothing of the URL is shown."""
    observer = RecordingObserver()
    claims = RedisClaims(lambda: "redis://app:secret@127.0.0.1:1/0", observer)
    assert await claims.take(MIGRATION, 99.0, REDELIVERED) == Unavailable()
    assert repr(claims) == "<RedisClaims: away, 0 claims>"
    await claims.conclude(MIGRATION, ENDING)
    assert repr(claims) == "<RedisClaims: away, 0 claims>"
    await claims.aclose()
    assert observer.changes == []


def test_a_url_that_cannot_be_read_is_refused_at_the_start() -> None:
    """Not only when the first connection is made."""
    with pytest.raises(ValueError, match="option"):
        RedisClaims(lambda: "redis://app:secret@127.0.0.1/0?colour=red", RecordingObserver())


async def test_a_redis_of_no_use_is_tried_again_but_reported_once() -> None:
    """One attempt at a time with a pause between, and only changes are reported."""
    observer, attempts, usable_from = RecordingObserver(), 0, 3

    def answer(parts: list[bytes]) -> bytes:
        if parts[0] == b"GET":
            return bulk(MEMORY)
        return bulk(MEMORY + b" 3600.0 1000 4000") if attempts >= usable_from else b"-READONLY a replica\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        await answering(answer)(reader, writer)

    async with listening(serve) as url:
        claims, started = RedisClaims(lambda: url, observer), time.monotonic()
        await asyncio.wait_for(claims.start(), 5)
        assert await claims.take(MIGRATION, 99.0, REDELIVERED) == Unavailable()
        async with asyncio.timeout(10):
            while not claims.is_available:
                await asyncio.sleep(0.01)
        assert time.monotonic() - started >= 1.0  # two pauses
        unusable = "Redis is a replica that must not be written to"
        assert (attempts, observer.changes) == (usable_from, [(False, unusable), (True, "Redis answers")])
        await claims.aclose()
        assert not claims.is_available


async def test_address_that_swallows_packets_does_not_keep_redis_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another address of the name answers: the claims are there from the start."""

    def answer(parts: list[bytes]) -> bytes:
        return bulk(MEMORY) if parts[0] == b"GET" else bulk(MEMORY + b" 3600.0 1000 4000")

    async with listening(answering(answer)) as url:
        port = url.partition("127.0.0.1:")[2].partition("/")[0]
        with first_address_swallows(monkeypatch, int(port)) as host:
            claims = RedisClaims(lambda: url.replace("127.0.0.1", host), RecordingObserver())
            await asyncio.wait_for(claims.start(), 5)
            assert claims.is_available
            await claims.aclose()


async def test_stored_expired_answers_no_copy_that_may_have_task() -> None:
    """Redis may have been away when a create was sent for it: it gets a claim in place of the outcome."""
    late, first = replace(MIGRATION, not_after=NOW - 9), Envelope.read({}, redelivered=False, now=NOW - 99)
    expired = final_events.failed(late, first, Reason.EXPIRED, NOW)
    stored = b"concluded %b 0 0 %b" % (late.fingerprint.encode(), encode_ending(expired))

    def answer(parts: list[bytes]) -> bytes:
        if parts[0] == b"GET" or parts[3] == scripts.MEMORY_KEY:
            return bulk(MEMORY if parts[0] == b"GET" else MEMORY + b" 3600.0 1000 4000")
        return bulk(b"odd " if parts[-1] else stored)

    async with listening(answering(answer)) as url:
        claims = RedisClaims(lambda: url, RecordingObserver())
        await asyncio.wait_for(claims.start(), 5)
        copies = [replace(first, is_repeat=True, last_sent_at=sent_at) for sent_at in (None, NOW - 30)]
        assert [await claims.take(late, NOW, copy) for copy in copies] == [Concluded(expired), Granted(is_first=False)]
        await claims.aclose()


@pytest.mark.parametrize(
    ("seconds", "call_seconds", "is_first", "last_sent_at"),
    [(99.5, None, False, None), (99.5, 30.0, False, float(MEMORY) + 30.0 + 15.0), (600.0, 30.0, True, None)],
    ids=["look", "pause", "old enough"],
)
async def test_request_that_a_young_redis_does_not_know_is_not_taken_for_new(
    seconds: float, call_seconds: float | None, is_first: bool, last_sent_at: float | None
) -> None:
    """Under `pause` also the end of a create is awaited that began under a claim which Redis forgot."""

    def answer(parts: list[bytes]) -> bytes:
        if parts[0] == b"GET" or parts[3] == scripts.MEMORY_KEY:
            return bulk(MEMORY if parts[0] == b"GET" else MEMORY + b" 3600.0 1000 4000")
        return bulk(b"new")

    async with listening(answering(answer)) as url:
        claims = RedisClaims(lambda: url, RecordingObserver(), lease=45.0, call_seconds=call_seconds)
        await asyncio.wait_for(claims.start(), 5)
        granted = await claims.take(MIGRATION, float(MEMORY) + seconds, REDELIVERED)
        await claims.aclose()
    assert granted == Granted(is_first=is_first, last_sent_at=last_sent_at)


async def test_rotated_password_is_used_by_the_next_connection() -> None:
    """Redis takes the new password only, and the URL is read again for each session."""
    observer, passwords, url = RecordingObserver(), list[bytes](), ["old"]

    def answer(parts: list[bytes]) -> bytes:
        if parts[0] == b"AUTH":
            passwords.append(parts[1])
            return b"+OK\r\n" if parts[1] == b"new" else b"-WRONGPASS invalid username-password pair\r\n"
        return bulk(MEMORY) if parts[0] == b"GET" else bulk(MEMORY + b" 3600.0 1000 4000")

    async with listening(answering(answer)) as address:
        claims = RedisClaims(lambda: address.replace("//", f"//:{url[0]}@"), observer)
        await asyncio.wait_for(claims.start(), 5)
        assert observer.changes == [(False, "Redis does not accept the credentials")]
        url[0] = "new"
        async with asyncio.timeout(10):
            while not claims.is_available:
                await asyncio.sleep(0.01)
        assert passwords == [b"old", b"new"]
        await claims.aclose()


async def test_a_server_that_accepts_and_says_nothing_is_closed_on_the_way_out() -> None:
    """No wait is without an end: neither the login, nor the end in the middle of it."""
    open_connections: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_connections.add(writer)
        await reader.read()
        open_connections.discard(writer)

    async with listening(serve) as url:
        claims = RedisClaims(lambda: url.replace("//", "//:secret@"), RecordingObserver())
        starting = asyncio.create_task(claims.start())
        async with asyncio.timeout(5):
            while not open_connections:
                await asyncio.sleep(0.01)
            await claims.aclose()
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            while open_connections:
                await asyncio.sleep(0.01)

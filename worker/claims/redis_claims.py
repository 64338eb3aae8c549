"""Law `single-flight` across replicas: claims on requests, and how requests ended, shared through Redis.

Nothing here raises, and no request waits for a Redis that is away. As soon as it answers, the claims under which this
process works are renewed, and with `WORKER_CLAIMS_AWAY=pause` the endings of calls under way are stored.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from schemas.envelope import Envelope
from schemas.last_error import LastError
from worker.claims import records, scripts
from worker.claims.connection import (
    BATCH_LIMIT,
    NoReply,
    RedisAnswer,
    RedisSession,
    describe,
    make_client,
    open_session,
)
from worker.claims.leases import Lease, Leases
from worker.claims.scripts import ScriptCall
from worker.policy.migration_request import MigrationRequest
from worker.policy.outcome import ClaimAnswer, ClaimedElsewhere, Completed, Concluded, Granted

LEASE_SECONDS: Final = 30.0
CALL_TIMEOUT_SECONDS: Final = 0.5
MIN_MEMORY_AGE_SECONDS: Final = 600.0
"""A Redis that remembers less is not believed that a request is new: senders repeat a publish that they are unsure of
within minutes."""
KEEP_MILLISECONDS: Final = 7 * 24 * 3600 * 1000
"""How long a record is kept after its last change. Endings for the 7 days that copies are promised an answer; released
and lost claims as long, since their request may sit in a backlog or be parked as long before it comes back."""
_KEEP: Final = b"%d" % KEEP_MILLISECONDS
RETRY_SECONDS: Final = 0.5
"""At least, and at most twice as long, from a failure to the next attempt."""
STEADY_SECONDS: Final = 5.0
"""After a session of at least this length the next attempt is made at once."""


class ClaimsObserver(Protocol):
    """Receives what changes about the claims."""

    def claims_available(self, is_available: bool, reason: str) -> None:
        """Redis can be used from now on, or not any more; called only when that changes."""

    def claims_doubted(self, seconds: float) -> None:
        """Redis is new or forgot its records: for so many seconds every request is looked for before it is created."""

    def claims_memory_used(self, ratio: float | None) -> None:
        """So much of the memory that Redis may use is used; None if there is no limit, or Redis does not say."""

    def claims_record_doubted(self, project_id: str, request_id: str) -> None:
        """The record of a request was none that a worker can have written, and was replaced by a claim."""


class RedisClaims:
    """The claims of one replica. Times are epoch seconds, durations seconds."""

    def __init__(  # noqa: PLR0913 - each is a setting, and none is set afterwards
        self,
        url: Callable[[], str],
        observer: ClaimsObserver,
        *,
        lease: float = LEASE_SECONDS,
        timeout: float = CALL_TIMEOUT_SECONDS,
        min_memory_age: float = MIN_MEMORY_AGE_SECONDS,
        late_reports: int = 0,
        call_seconds: float | None = None,
        on_available: Callable[[bool], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`url`, of each session: redis://, rediss:// or unix://. Raises ValueError if it cannot be read, without it.

        `late_reports`: how many endings and releases are kept for a Redis that is away. `call_seconds`: deadline of a
        call, if a create under a claim that Redis forgot must be awaited. `on_available` is called when Redis can be
        used from now on, or not any more.
        """
        assert lease <= scripts.LONGEST_LEASE_SECONDS
        make_client(url())
        self._url = url
        self._observer = observer
        self._timeout = timeout
        self._clock = clock
        self._min_memory_age = min_memory_age
        self._lease_ms = b"%d" % round(lease * 1000)
        self._renewal_seconds = lease / 3
        self._leases = Leases(lease, clock)
        self._late_reports: deque[ScriptCall] = deque(maxlen=late_reports)
        self._on_available = on_available
        # The owner of a forgotten claim may begin a create until its next renewal.
        self._forgotten_seconds = None if call_seconds is None else call_seconds + lease / 3
        self._memory = b""
        self._session: RedisSession | None = None
        self._was_available: bool | None = None
        self.fault = ""
        """Why Redis was away last."""
        self._has_tried = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<RedisClaims: {'available' if self.is_available else 'away'}, {len(self._leases)} claims>"

    @property
    def is_available(self) -> bool:
        """Whether Redis can be asked."""
        return self._session is not None and not self._session.ended.done()

    async def start(self) -> None:
        """Run in the background; returns when Redis has answered for the first time, or failed to."""
        self._running = asyncio.create_task(self._keep_connected(), name="claims")
        await self._has_tried.wait()

    async def aclose(self) -> None:
        """Stop. Claims that are still held run out: what they were for may have a create in flight."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def take(self, migration: MigrationRequest, now: float, envelope: Envelope) -> ClaimAnswer:
        """Claim the request: one round trip, answered within the timeout, or at once while Redis is away.

        An outcome that does not answer a delivery with this envelope is replaced, in another one.
        """
        known = self._leases.get(migration)
        if known is not None:
            return ClaimedElsewhere(known.migration.fingerprint)
        lease = self._leases.open(migration)
        answer: ClaimAnswer | None = None
        try:
            answer = await self._claim(lease, now, envelope)
        finally:
            if not isinstance(answer, Granted):
                self._leases.close(lease)
        return answer

    async def _claim(self, lease: Lease, now: float, envelope: Envelope) -> ClaimAnswer:
        asked_at = self._clock()
        found = await self._take(lease, now, envelope)
        if isinstance(replaced := found, records.Unreadable):
            found = await self._take(lease, now, envelope, replaced.ending)
        if isinstance(found, records.Unreadable):  # another one, put there in between
            return ClaimedElsewhere(lease.migration.fingerprint)
        if isinstance(found, records.Doubted):
            if not isinstance(replaced, records.Outdated):  # which was readable
                self._observer.claims_record_doubted(*lease.migration.key)
            found = Granted(is_first=False, last_sent_at=found.last_sent_at)
        if isinstance(found, Granted):
            self._leases.granted(lease, asked_at)
        return found

    async def _take(
        self, lease: Lease, now: float, envelope: Envelope, replaced: bytes = b""
    ) -> ClaimAnswer | records.Doubted | records.Unreadable:
        migration = lease.migration
        numbers = (b"%d" % envelope.replays, self._lease_ms, _KEEP, b"%r" % now)
        arguments = (scripts.record_key(migration), lease.token, migration.fingerprint.encode(), *numbers, replaced)
        reply, memory = await self._ask(ScriptCall(scripts.TAKE, arguments))
        is_remembered = records.is_remembered(memory, now, self._min_memory_age)
        if reply == b"new" and not is_remembered and self._forgotten_seconds is not None:
            return Granted(
                is_first=False,
                last_sent_at=records.memory_start(memory, now) + self._forgotten_seconds,
                has_record=False,
            )
        found = records.read_take(reply, migration, now, is_remembered=is_remembered)
        if isinstance(found, Concluded) and not found.ending.answers(migration, envelope):
            return records.Outdated(records.stored_text(reply))
        return found

    def is_claimed(self, migration: MigrationRequest) -> bool:
        """Whether Redis is there and the request surely ours. Local knowledge, no I/O."""
        return self.is_available and self._leases.is_held(migration)

    async def conclude(self, migration: MigrationRequest, ending: Completed) -> Completed:
        """Store how the request ended, for every replica, and give the claim up; returns the ending that stands.

        A conflict is no ending of the request that the id belongs to: it deletes the claim.
        """
        if ending.fingerprint != migration.fingerprint:
            forget = (scripts.record_key(migration), self._token(migration), b"-1")
            await self._report(migration, ScriptCall(scripts.FORGET, forget))
            return ending
        record = records.encode_ending(ending)
        if len(record) > scripts.RECORD_LIMIT:
            await self.release(migration, None)
            return ending
        succeeded = b"1" if ending.succeeded else b"0"
        numbers = (succeeded, b"%d" % ending.replays, _KEEP, self._token(migration))
        arguments = (scripts.record_key(migration), migration.fingerprint.encode(), record, *numbers)
        answer = await self._report(migration, ScriptCall(scripts.CONCLUDE, arguments))
        return records.read_ending(answer.reply, migration, time.time()) or ending

    async def release(
        self, migration: MigrationRequest, last_sent_at: float | None, last_error: LastError | None = None
    ) -> None:
        """Give the claim up, and say when a create may last have been in flight, and its conflict."""
        token = self._token(migration)
        sent = b"" if last_sent_at is None else b"%r" % last_sent_at
        conflict = last_error.text().encode() if last_error is not None and last_error.is_conflict else b""
        arguments = (scripts.record_key(migration), token, migration.fingerprint.encode(), sent, _KEEP, conflict)
        await self._report(migration, ScriptCall(scripts.RELEASE, arguments))

    def _token(self, migration: MigrationRequest) -> bytes:
        """The token of the claim on the request; empty if there is none."""
        lease = self._leases.get(migration)
        return lease.token if lease is not None else b""

    async def _report(self, migration: MigrationRequest, command: ScriptCall) -> RedisAnswer:
        if (lease := self._leases.get(migration)) is not None:
            self._leases.close(lease)
        answer = await self._ask(command)
        if isinstance(answer.reply, NoReply):
            self._late_reports.append(command)
        return answer

    async def _ask(self, command: ScriptCall) -> RedisAnswer:
        """The answer to `command`, at once if Redis is away."""
        session = self._session
        return await session.ask(command) if session is not None else RedisAnswer(NoReply("Redis is away"))

    # The connection, and what Redis has to hear again.

    async def _keep_connected(self) -> None:
        """Session after session."""
        while True:
            started = time.monotonic()
            try:
                async with open_session(self._url(), self._timeout) as session:
                    reason = await self._use(session)
            except Exception as error:  # noqa: BLE001 - the next session is the remedy for any error of this one
                reason = describe(error)
            self._session = None
            self._set_available(False, reason)
            if time.monotonic() - started < STEADY_SECONDS:
                await asyncio.sleep(RETRY_SECONDS * (1 + random.random()))

    async def _use(self, session: RedisSession) -> str:
        """Answer calls from this session until it is of no use any more; returns the reason."""
        reason = await self._synchronize(session, is_new=True)
        if reason is None:
            self._session = session
            self._set_available(True, "Redis answers")
        while reason is None:
            await asyncio.wait((session.ended,), timeout=self._renewal_seconds)
            reason = session.ended.result() if session.ended.done() else await self._synchronize(session, is_new=False)
        return reason

    def _set_available(self, is_available: bool, reason: str) -> None:
        self._has_tried.set()
        self.fault = self.fault if is_available else reason
        if is_available is not self._was_available:
            self._was_available = is_available
            self._observer.claims_available(is_available, reason)
            self._on_available(is_available)

    async def _synchronize(self, session: RedisSession, *, is_new: bool) -> str | None:
        """Renew every claim, and store what a Redis that is back did not hear; the reason if it is of no use."""
        reply, _ = await session.ask(ScriptCall(scripts.REMEMBER, (scripts.MEMORY_KEY,)))
        if not isinstance(reply, bytes):
            return reply.reason if isinstance(reply, NoReply) else "Redis is not understood"
        memory, seconds, used, limit = reply.split(b" ")
        self._observer.claims_memory_used(int(used) / int(limit) if int(limit) else None)
        await self._renew(session)
        if is_new:
            await self._report_late(session)
        if memory != self._memory and float(seconds) < self._min_memory_age:
            self._observer.claims_doubted(self._min_memory_age - float(seconds))
        self._memory = memory
        return session.ended.result() if session.ended.done() else None

    async def _renew(self, session: RedisSession) -> None:
        asked_at = self._clock()
        asked = [(lease, session.ask(self._renewal(lease))) for lease in self._leases.to_renew()]
        for lease, answer in asked:
            found, _ = await answer
            if found == scripts.GONE:
                self._leases.close(lease)
            elif isinstance(found, int):
                self._leases.renewed(lease, asked_at, found)

    def _renewal(self, lease: Lease) -> ScriptCall:
        arguments = (lease.token, lease.migration.fingerprint.encode(), self._lease_ms, _KEEP)
        return ScriptCall(scripts.RENEW, (scripts.record_key(lease.migration), *arguments))

    async def _report_late(self, session: RedisSession) -> None:
        commands = [*self._late_reports]
        self._late_reports.clear()
        for start in range(0, len(commands), BATCH_LIMIT):
            batch = commands[start : start + BATCH_LIMIT]
            answers = zip(batch, await asyncio.gather(*map(session.ask, batch)), strict=True)
            self._late_reports.extend(command for command, answer in answers if isinstance(answer.reply, NoReply))

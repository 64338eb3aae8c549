"""Law 4 across replicas: claims on requests, and how requests ended, shared through Redis.

Nothing here raises, and no request waits for a Redis that is away. What Redis may have lost, or was never told, is
told again as soon as it answers: the claims under which this process works, and the last endings and releases.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from worker.claims import answers, scripts
from worker.claims.leases import Lease, Leases
from worker.claims.link import ClaimsObserver, Link
from worker.claims.wire import NoAnswer, Reply, Wire, dial
from worker.policy.claim import ClaimAnswer, Granted, Held, Unavailable
from worker.policy.order import Order
from worker.policy.outcome import Ending

LEASE: Final = 30.0
DEADLINE: Final = 0.5
DOUBT: Final = 600.0
"""A Redis that remembers less than so many seconds is not believed that a request is new: senders repeat a publish
that they are unsure of within minutes."""
KEEP: Final = b"%d" % (7 * 24 * 3600 * 1000)
"""Milliseconds that a record is kept after its last change. Endings for the 7 days that copies are promised an answer;
released and lost claims as long, since their request may sit in a backlog or be parked as long before it comes back."""
RECENT: Final = 1024
AT_ONCE: Final = 64


class RedisClaims:
    """The claims of one replica. Times are epoch seconds, durations seconds."""

    def __init__(
        self,
        url: str,
        observer: ClaimsObserver,
        *,
        lease: float = LEASE,
        deadline: float = DEADLINE,
        doubt: float = DOUBT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`url`: redis://, rediss:// or unix://. Raises ValueError, without repeating it, if it cannot be read."""
        self._observer = observer
        self._clock = clock
        self._doubt = doubt
        self._lease_ms = b"%d" % round(lease * 1000)
        self._leases = Leases(lease, clock)
        self._link = Link(dial(url), self._beat, observer, deadline=deadline, every=lease / 3)
        self._recent: deque[bytes] = deque(maxlen=RECENT)
        self._memory = b""
        self._running: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<RedisClaims: {'available' if self.is_available else 'away'}, {len(self._leases)} claims>"

    @property
    def is_available(self) -> bool:
        """Whether Redis can be asked."""
        return self._link.is_available

    async def start(self) -> None:
        """Run in the background; returns when Redis has answered for the first time, or failed to."""
        self._running = asyncio.create_task(self.run(), name="claims")
        await self._link.tried.wait()

    async def aclose(self) -> None:
        """Stop. Claims that are still held run out: what they were for may have a create in flight."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def run(self) -> None:
        """Keep the connection up and the claims renewed, for as long as it is awaited."""
        await self._link.run()

    async def take(self, order: Order, now: float, replays: int = 0) -> ClaimAnswer:
        """Claim the request. One command, answered within the deadline, or at once while Redis is away.

        `replays`: how often an operator sent the request again; a failure of fewer replays does not conclude it.
        """
        known = self._leases.get(order)
        if known is not None:
            return Held(known.order.fingerprint)
        lease = self._leases.open(order)
        answer: ClaimAnswer | None = None
        try:
            answer = await self._ask(lease, now, replays)
        finally:
            # What could not be claimed is claimed when Redis is back, if nobody else has the request by then.
            if not isinstance(answer, Granted | Unavailable):
                self._leases.close(lease)
        return answer

    async def _ask(self, lease: Lease, now: float, replays: int) -> ClaimAnswer:
        asked_at = self._clock()
        order = lease.order
        taken = self._link.ask(
            scripts.TAKE(
                scripts.record_key(order),
                lease.token,
                order.fingerprint.encode(),
                b"%d" % replays,
                self._lease_ms,
                KEEP,
            )
        )
        memory = self._link.ask(scripts.READ_MEMORY)
        is_remembered = answers.is_remembered(await memory, now, self._doubt)
        answer = answers.answer(await taken, now, is_remembered=is_remembered)
        if isinstance(answer, Granted):
            self._leases.granted(lease, asked_at)
        return answer

    def is_held(self, order: Order) -> bool:
        """Whether the request is surely ours. Local knowledge, no I/O."""
        return self._leases.is_held(order)

    async def conclude(self, order: Order, ending: Ending) -> Ending:
        """Store how the request ended, for every replica, and give the claim up; the ending that stands."""
        record = answers.written(ending)
        if len(record) > answers.RECORD_LIMIT:
            await self.release(order, None)
            return ending
        lease = self._leases.get(order)
        reply = await self._tell(
            lease,
            scripts.CONCLUDE(
                scripts.record_key(order),
                order.fingerprint.encode(),
                record,
                b"1" if ending.succeeded else b"0",
                b"%d" % ending.replays,
                KEEP,
            ),
        )
        return answers.standing(reply) or ending

    async def release(self, order: Order, last_sent_at: float | None) -> None:
        """Give the claim up, and say when a create may last have been in flight."""
        lease = self._leases.get(order)
        await self._tell(
            lease,
            scripts.RELEASE(
                scripts.record_key(order),
                lease.token if lease is not None else b"",
                order.fingerprint.encode(),
                b"" if last_sent_at is None else b"%r" % last_sent_at,
                KEEP,
            ),
        )

    async def _tell(self, lease: Lease | None, command: bytes) -> Reply:
        if lease is not None:
            self._leases.close(lease)
        self._recent.append(command)
        return await self._link.ask(command)

    async def _beat(self, wire: Wire, is_new: bool) -> str | None:
        """Renew every claim; a Redis that may have lost records is told again. The reason if Redis is of no use."""
        reply = await wire.ask(scripts.REMEMBER)
        if not isinstance(reply, bytes):
            return reply.reason if isinstance(reply, NoAnswer) else "Redis is not understood"
        memory, _, seconds = reply.partition(b" ")
        await self._renew(wire)
        if is_new or memory != self._memory:
            await self._retell(wire)
        if memory != self._memory and float(seconds) < self._doubt:
            self._observer.claims_doubted(self._doubt - float(seconds))
        self._memory = memory
        return None

    async def _renew(self, wire: Wire) -> None:
        asked_at = self._clock()
        asked = [(lease, wire.ask(self._renewal(lease))) for lease in self._leases.to_renew()]
        for lease, reply in asked:
            found = await reply
            if found == scripts.GONE:
                self._leases.close(lease)
            elif isinstance(found, int):
                self._leases.renewed(lease, asked_at, found)

    def _renewal(self, lease: Lease) -> bytes:
        return scripts.RENEW(
            scripts.record_key(lease.order),
            lease.token,
            lease.order.fingerprint.encode(),
            self._lease_ms,
            KEEP,
        )

    async def _retell(self, wire: Wire) -> None:
        told = list(self._recent)
        for at in range(0, len(told), AT_ONCE):
            await asyncio.gather(*map(wire.ask, told[at : at + AT_ONCE]))

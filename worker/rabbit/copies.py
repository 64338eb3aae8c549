"""Copies of requests: put into a retry, parked or requests queue although a queue, or the broker, does not take one.

A queue that refuses copies (a policy limits its length) leads to the next longer retry queue, and then to a pause of
consumption. A copy for which the broker closes the channel is tried alone, then without the sender's headers.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

from aiormq.exceptions import DeliveryError, PublishError
from pamqp.commands import Basic

from schemas import names
from worker.policy.call_result import UnconfirmedError, UncopyableError
from worker.rabbit.on_demand import ClosedError, OnDemandConnection
from worker.rabbit.publishing import PUBLISH_TIMEOUT_SECONDS, RefusedError, copy_properties

TRIES_ALONE: Final = 2
"""With the same headers: the first closing may have another cause."""
REFUSAL_SECONDS: Final = 5.0
"""A queue that refused a copy is not asked again for this time."""
STUCK_SECONDS: Final = 20.0
"""A pause ends after this time without a refused copy: longer than the wait between two tries of a copy in hand."""
_WRITTEN_BY_WORKER: Final = names.STATE | names.MOVED_PROPERTIES | {names.JOURNAL}


class Original(Protocol):
    """A delivery to be copied."""

    @property
    def body(self) -> bytes:
        """The message body."""

    @property
    def properties(self) -> Basic.Properties:
        """The message properties as they came."""


Publish = Callable[[bytes, Basic.Properties, str], Awaitable[None]]
"""Publishes to a queue on the shared channel. Raises RefusedError, ClosedError and UnconfirmedError."""


class CopyPublisher:
    """Publishes copies with `publish`, and on a channel of `isolated` where that does not do.

    `on_stuck` is called with the queues whose copies no queue takes, whenever they change; `on_cured` when a queue
    takes a copy that it refused on the shared channel.
    """

    def __init__(
        self,
        publish: Publish,
        isolated: OnDemandConnection,
        *,
        on_stuck: Callable[[Sequence[str]], None],
        on_cured: Callable[[], None],
    ) -> None:
        self._publish = publish
        self._isolated = isolated
        self._on_stuck = on_stuck
        self._on_cured = on_cured
        self._turn = asyncio.Lock()
        self._refused_at: dict[str, float] = {}
        self._stuck: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<CopyPublisher: no place for copies to {sorted(self._stuck)}>"

    async def copy(
        self, original: Original, headers: Mapping[str, object], queues: Sequence[str], max_headers_bytes: int
    ) -> None:
        """Put a copy into the first of these queues that takes it. Raises UnconfirmedError and UncopyableError."""
        for queue in dict.fromkeys(queues):
            if self._has_refused(queue):
                continue
            try:
                await self._copy_to(queue, original, headers, max_headers_bytes)
            except RefusedError:
                self._refused_at[queue] = time.monotonic()
            else:
                self._refused_at.pop(queue, None)
                self.set_stuck(queues[0], is_stuck=False)
                return
        self.set_stuck(queues[0], is_stuck=True)
        raise UnconfirmedError(f"queue {queues[0]!r} refuses copies, and so do those that could take its place")

    def forget_old(self) -> None:
        """Forget the refusals of copies that are not in hand any more."""
        now = time.monotonic()
        for queue in [queue for queue, at in self._stuck.items() if now - at > STUCK_SECONDS]:
            self.set_stuck(queue, is_stuck=False)

    def _has_refused(self, queue: str) -> bool:
        return time.monotonic() - self._refused_at.get(queue, -REFUSAL_SECONDS) < REFUSAL_SECONDS

    def set_stuck(self, queue: str, *, is_stuck: bool) -> None:
        """A queue refuses copies, or events, or takes them again."""
        before = set(self._stuck)
        if is_stuck:
            self._stuck[queue] = time.monotonic()
        else:
            self._stuck.pop(queue, None)
        if before != set(self._stuck):
            self._on_stuck(sorted(self._stuck))

    async def _copy_to(
        self, queue: str, original: Original, headers: Mapping[str, object], max_headers_bytes: int
    ) -> None:
        properties = partial(copy_properties, original.properties, max_headers_bytes=max_headers_bytes)
        try:
            await self._publish(original.body, properties(headers), queue)
        except ClosedError:
            async with self._turn:
                await self._copy_alone(queue, original.body, properties, headers)
        except RefusedError:
            # RabbitMQ 3.10 goes on refusing on a channel what the queue takes by now.
            async with self._turn:
                if self._has_refused(queue):  # found while this copy waited for its turn
                    raise
                await self._copy_alone(queue, original.body, properties, headers)
            self._on_cured()

    async def _copy_alone(
        self,
        queue: str,
        body: bytes,
        properties: Callable[[Mapping[str, object]], Basic.Properties],
        headers: Mapping[str, object],
    ) -> None:
        own = {name: value for name, value in headers.items() if is_written_by_worker(name)}
        for tried in (headers, own):
            for _ in range(TRIES_ALONE):
                try:
                    await self._isolated.publish(
                        body, properties(tried), queue, PUBLISH_TIMEOUT_SECONDS, mandatory=True
                    )
                except ClosedError:
                    continue
                except PublishError:
                    raise UnconfirmedError(f"queue {queue!r} does not exist") from None
                except DeliveryError:
                    raise RefusedError(f"queue {queue!r} refuses a copy") from None
                except TimeoutError:
                    await self._isolated.aclose()
                    raise UnconfirmedError(f"no confirm within {PUBLISH_TIMEOUT_SECONDS:g} s") from None
                return
        raise UncopyableError(f"the broker closes the connection for a copy to {queue!r}")


def is_written_by_worker(name: str) -> bool:
    """Whether a header of this name is on a copy only if a worker wrote it."""
    return name in _WRITTEN_BY_WORKER or name.startswith(names.PARKED_PREFIX)

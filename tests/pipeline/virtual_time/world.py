"""A world in virtual time: the queue, the replicas that consume it, and a fake DCS."""

import asyncio
import json
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from schemas import names
from tests.pipeline.fakes import REQUEST
from tests.pipeline.virtual_time.event_loop import VirtualTime
from tests.pipeline.virtual_time.fakes import FakeDcs, Message, Replica
from worker.policy.retry_policy import Reconcile, RetryPolicy, ThrottleSettings


class World:
    """The queue, the replicas that consume it, and DCS."""

    def __init__(
        self,
        replicas: int = 1,
        *,
        prefetch: int = 64,
        regions: tuple[str, ...] = ("cn-north-4",),
        rate: float | None = None,
        rates: tuple[float | None, ...] = (),
        reconcile: Reconcile = "always",
        delays: tuple[float, ...] = (10.0, 60.0, 300.0, 1800.0),
        latency: float = 0.05,
        seed: int = 0,
    ) -> None:
        self.loop = VirtualTime()
        self.loop.set_exception_handler(self._uncaught)
        self.rng = random.Random(seed)
        self.policy = RetryPolicy(delays=delays, reconcile=reconcile)
        self.dcs = FakeDcs(self.loop, latency)
        self.queue: deque[Message] = deque()
        self.postponed = 0
        self.highest_round = 0
        """Highest round of a request that returned from a retry queue."""
        self.parked: list[Message] = []
        self.ended: dict[str, tuple[float, str]] = {}
        self.outcomes: Counter[tuple[str, str]] = Counter()
        rates = rates or (rate,) * replicas
        self.replicas: list[Replica] = []
        for each in rates:
            self.replicas.append(Replica(self, ThrottleSettings(regions, prefetch, 30.0, delays, each)))

    def publish(self, count: int, prefix: str = "r", **changes: Any) -> list[str]:
        """Publish requests. Returns their ids."""
        ids = [f"{prefix}-{number}" for number in range(count)]
        for request_id in ids:
            self.enqueue(self.message(request_id, **changes))
        return ids

    def message(self, request_id: str, **changes: Any) -> Message:
        """A request that is not in the queue."""
        return Message(json.dumps(REQUEST | {"request_id": request_id} | changes).encode())

    def enqueue(self, message: Message) -> None:
        """Put a message at the end of the queue."""
        self.queue.append(message)
        self.deliver_waiting()

    def return_from_retry(self, message: Message) -> None:
        """Return a message from a retry queue."""
        highest_round = message.headers[names.ROUND]
        assert isinstance(highest_round, int)
        self.highest_round = max(self.highest_round, highest_round)
        self.enqueue(message)

    def deliver_waiting(self) -> None:
        """Deliver waiting messages to the replicas in turn."""
        while self.queue:
            free = [replica for replica in self.replicas if replica.is_consuming]
            if not free:
                return
            min(free, key=lambda replica: len(replica.unacked)).receive(self.queue.popleft())

    def run(self, until: Callable[[], bool] | float, *, at_most: float = 36000.0) -> float:
        """Let virtual time pass until a time or a condition. Returns the time."""
        end = until if isinstance(until, float) else self.loop.now + at_most

        async def wait() -> None:
            while self.loop.now < end and not (callable(until) and until()):
                await asyncio.sleep(0.02)

        self.loop.run_until_complete(wait())
        assert not callable(until) or until(), f"not within {at_most} s: {self.outcomes}, {len(self.ended)} ended"
        return self.loop.now

    def close(self) -> None:
        """Cancel unfinished tasks."""
        self.loop.run_until_complete(self._end())
        self.loop.close()

    async def _end(self) -> None:
        unfinished = asyncio.all_tasks() - {asyncio.current_task()}
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)

    def _uncaught(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        raise AssertionError(context)

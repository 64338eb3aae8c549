"""Bench: one dispatcher between fakes, on a clock that only `sleep` moves."""

import asyncio
from collections.abc import Iterable
from typing import Any

from tests.pipeline.fakes import NOW, FakeConsumer, FakeDcs, FakeDelivery, FakeObserver, FakePublisher
from worker.bootstrap.assembly import Ports, build_dispatcher
from worker.pipeline.deduplicator import Deduplicator
from worker.pipeline.dispatcher import Dispatcher
from worker.pipeline.pipeline import DeliveryPipeline
from worker.pipeline.ports import SharedClaims
from worker.pipeline.repeat_locks import Locks
from worker.pipeline.throttle import Throttle
from worker.policy.call_result import TaskCreated
from worker.policy.migration_request import MigrationRequest, RequestParser
from worker.policy.retry_policy import RetryPolicy, ThrottleSettings


class Bench:
    """Dispatcher of one replica between fakes, on a clock that only `sleep` moves.

    Without a policy, first deliveries create without a look-up: most tests count the calls of something else.
    """

    def __init__(
        self,
        policy: RetryPolicy | None = None,
        *,
        create: Iterable[Any] = (),
        find: Iterable[Any] = (),
        probe: Iterable[Any] = (),
        refusals: int = 0,
        claims: SharedClaims | None = None,
        locks: Locks | None = None,
        deduplicator: Deduplicator | None = None,
        consumer: FakeConsumer | None = None,
        with_marker: bool = True,
        publisher: FakePublisher | None = None,
        observer: FakeObserver | None = None,
        with_follow_up: bool = False,
    ) -> None:
        self.now = NOW
        self.dcs = FakeDcs(create, find, probe)
        self.publisher = publisher or FakePublisher(refusals)
        self.observer = observer or FakeObserver()
        self.claims = claims
        self.slept: list[float] = []
        self.created: list[tuple[str, str]] = []
        """Request and task of each create that this replica made."""
        self.consumer = consumer or FakeConsumer()
        policy = policy or RetryPolicy(reconcile="ambiguous")
        settings = ThrottleSettings(("cn-north-4",), 64, 30.0, policy.delays)
        self.throttle = Throttle(settings, self.dcs.probe, self.observer, lambda *_: None, random_unit=lambda: 0.0)
        ports = Ports(
            self.dcs,
            self.publisher,
            self.observer,
            self.throttle,
            self.consumer,
            claims,
            locks,
            now=lambda: self.now,
            random_unit=lambda: 0.0,
            sleep=self._sleep,
            on_created={"cn-north-4": self._on_created},
        )
        parser = RequestParser(65536, ("cn-north-4",), "cn-north-4", with_marker)
        self.dispatcher: Dispatcher[DeliveryPipeline] = build_dispatcher(
            ports, policy, parser, deduplicator or Deduplicator(), with_follow_up=with_follow_up
        )

    def _on_created(self, migration: MigrationRequest, created: TaskCreated) -> None:
        self.created.append((migration.request_id, created.instance_id))

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    async def deliver(self, *deliveries: FakeDelivery) -> None:
        """Deliver at the same time, and wait until all are settled."""
        for delivery in deliveries:
            self.dispatcher.deliver(delivery)
        await self.idle()

    async def idle(self) -> None:
        """Wait until nothing is in flight."""
        async with asyncio.timeout(10):
            while self.dispatcher.in_flight:
                await asyncio.sleep(0)

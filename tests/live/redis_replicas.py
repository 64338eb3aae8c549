"""Claims of replicas in a real Redis: helpers of the live tests."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio as redis

from schemas.envelope import Envelope
from schemas.event import Reason
from schemas.request import Request, Task
from tests.fakes.servers import RedisServer
from worker.claims.redis_claims import RedisClaims
from worker.claims.scripts import record_key
from worker.pipeline import final_events
from worker.policy.call_result import TaskCreated
from worker.policy.migration_request import MigrationRequest
from worker.policy.migration_request import migration as ordered
from worker.policy.outcome import Completed, Granted

NOW = time.time()
LEASE = 1.2


def migration(request_id: str = "r-1", name: str = "dcs-migration") -> MigrationRequest:
    """A migration request of the test project."""
    task = Task(name=name, vpc_id="vpc", subnet_id="subnet", security_group_id="group")
    request = Request(request_id=request_id, project_id="p", task=task)
    return ordered(request, default_region="cn-north-4", with_marker=True)


def ending(of: MigrationRequest, instance_id: str | None = "i-1", replays: int = 0, at: float = NOW) -> Completed:
    """The outcome of a request: a task of this id, or rejected if None."""
    envelope = Envelope(1, 0, 1, 0, replays, at, None, False, False)
    if instance_id is None:
        return final_events.failed(of, envelope, Reason.REJECTED, at)
    return final_events.succeeded(of, envelope, TaskCreated(instance_id), "created", at)


DONE = ending(migration())
REDELIVERED = Envelope.read({}, redelivered=True, now=NOW)
"""A delivery that had arrived before any ending."""


def received_at(at: float) -> Envelope:
    """A first delivery."""
    return Envelope.read({}, redelivered=False, now=at)


@dataclass
class RecordingObserver:
    """Observer of claims that records every report."""

    available: list[bool] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    doubts: list[float] = field(default_factory=list)
    memory_used: list[float | None] = field(default_factory=list)
    records: list[str] = field(default_factory=list)

    def claims_available(self, is_available: bool, reason: str) -> None:
        """Redis became usable or unusable."""
        self.available.append(is_available)
        self.reasons.append(reason)

    def claims_doubted(self, seconds: float) -> None:
        """Redis is new or lost its records."""
        self.doubts.append(seconds)

    def claims_memory_used(self, ratio: float | None) -> None:
        """Redis told how full it is."""
        self.memory_used.append(ratio)

    def claims_record_doubted(self, project_id: str, request_id: str) -> None:
        """A record was replaced."""
        self.records.append(f"{project_id}/{request_id}")


@asynccontextmanager
async def replica(
    url: str | Callable[[], str], reported: RecordingObserver | None = None, **options: Any
) -> AsyncIterator[RedisClaims]:
    """The claims of a replica, with a short lease and without doubt about a new Redis."""
    claims = RedisClaims(
        url if callable(url) else lambda: url,
        reported or RecordingObserver(),
        **({"lease": LEASE, "min_memory_age": 0.0} | options),
    )
    await claims.start()
    try:
        yield claims
    finally:
        await claims.aclose()


@asynccontextmanager
async def two_replicas(url: str) -> AsyncIterator[tuple[RedisClaims, RedisClaims]]:
    """The claims of two replicas."""
    async with replica(url) as one, replica(url) as other:
        yield one, other


@asynccontextmanager
async def operator(node: RedisServer) -> AsyncIterator[Any]:
    """A Redis client of an operator."""
    client = redis.Redis(port=node.port, single_connection_client=True)
    try:
        yield client
    finally:
        await client.aclose()


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until a condition holds; fail when it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def renewed(client: Any, of: MigrationRequest, seconds: float = LEASE) -> None:
    """Wait until the claim is renewed."""
    before = await client.hget(record_key(of), "until")
    async with asyncio.timeout(seconds):
        while await client.hget(record_key(of), "until") == before:
            await asyncio.sleep(0.01)


async def take_until_granted(claims: RedisClaims, of: MigrationRequest, now: float = NOW) -> Granted:
    """Claim repeatedly until granted."""
    async with asyncio.timeout(10):
        while not isinstance(answer := await claims.take(of, now, REDELIVERED), Granted):
            await asyncio.sleep(0.02)
    return answer

"""Construction of a dispatcher over any ports: those of a running worker, or simulated ones.

Short on purpose: it is what production and the simulation share.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from worker.pipeline.claims_or_locks import Locks
from worker.pipeline.deduplicator import Deduplicator
from worker.pipeline.dispatcher import Dispatcher
from worker.pipeline.executor import Executor
from worker.pipeline.pipeline import DeliveryPipeline, RequestParser
from worker.pipeline.ports import CallThrottle, Claims, ConsumerControl, Dcs, Observer, Publisher
from worker.pipeline.repeat_locks import RepeatLocks
from worker.pipeline.settler import Settler
from worker.policy.retry_policy import RetryPolicy


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports of the pipeline: the rooms of a running worker, or simulated ones."""

    dcs: Dcs
    publisher: Publisher
    observer: Observer
    throttle: CallThrottle
    consumer: ConsumerControl
    claims: Claims | None = None
    locks: Locks | None = None
    """For repeated requests, without claims."""
    now: Callable[[], float] = time.time
    random_unit: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


def build_dispatcher(
    ports: Ports, retry_policy: RetryPolicy, parser: RequestParser, deduplicator: Deduplicator
) -> Dispatcher:
    """The dispatcher of one replica, over these ports."""
    now, random_unit, observer = ports.now, ports.random_unit, ports.observer
    executor = Executor(retry_policy, ports.dcs, ports.throttle, observer, now=now, random_unit=random_unit)
    settler = Settler(ports.publisher, observer, now=now, random_unit=random_unit, sleep=ports.sleep)
    locks = RepeatLocks(ports.locks, settle=retry_policy.settle) if ports.locks else None
    pipeline = DeliveryPipeline(
        *(parser, retry_policy, deduplicator, ports.claims, executor, settler, observer), now=now, locks=locks
    )
    return Dispatcher(pipeline, ports.throttle, observer, ports.consumer)

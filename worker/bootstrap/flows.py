"""One replica's flow, over whatever ports: those of a running worker, or their stand-ins in a proof.

Short on purpose: it is what production and the simulation have in common.
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
from worker.pipeline.ports import CallThrottle, Claims, ConsumerControl, Dcs
from worker.pipeline.ports import Observer as ObserverPort
from worker.pipeline.ports import Publisher as PublisherPort
from worker.pipeline.repeat_locks import RepeatLocks
from worker.pipeline.settler import Settler
from worker.policy.retry_policy import RetryPolicy


@dataclass(frozen=True, slots=True)
class Ports:
    """What the flow works with: the rooms of a running worker, or their stand-ins in a proof."""

    dcs: Dcs
    publisher: PublisherPort
    observer: ObserverPort
    throttle: CallThrottle
    consumer: ConsumerControl
    claims: Claims | None = None
    locks: Locks | None = None
    """For repeats, where there are no claims."""
    now: Callable[[], float] = time.time
    random_unit: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


def flow(ports: Ports, retry_policy: RetryPolicy, parser: RequestParser, deduplicator: Deduplicator) -> Dispatcher:
    """One replica's flow over the given ports."""
    now, random_unit, observer = ports.now, ports.random_unit, ports.observer
    executor = Executor(retry_policy, ports.dcs, ports.throttle, observer, now=now, random_unit=random_unit)
    settler = Settler(ports.publisher, observer, now=now, random_unit=random_unit, sleep=ports.sleep)
    locks = RepeatLocks(ports.locks, settle=retry_policy.settle) if ports.locks else None
    process = DeliveryPipeline(
        *(parser, retry_policy, deduplicator, ports.claims, executor, settler, observer), now=now, locks=locks
    )
    return Dispatcher(process, ports.throttle, observer, ports.consumer)

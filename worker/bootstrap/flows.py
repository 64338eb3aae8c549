"""One replica's flow, over whatever ports: those of a running worker, or their stand-ins in a proof."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from worker.pipeline.claims_or_locks import Locks
from worker.pipeline.deduplicator import Deduplicator
from worker.pipeline.dispatcher import ConsumerControl, Dispatcher
from worker.pipeline.executor import Executor
from worker.pipeline.gate import OpenGate
from worker.pipeline.pipeline import DeliveryPipeline, RequestParser
from worker.pipeline.ports import Claims, Dcs
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
    claims: Claims | None = None
    locks: Locks | None = None
    """For repeats, where there are no claims."""
    now: Callable[[], float] = time.time
    random_unit: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


@dataclass(frozen=True, slots=True)
class Parts:
    """What the flow is made of."""

    handler: type[Executor] = Executor
    settler: type[Settler] = Settler
    copies: Callable[[], Deduplicator] = Deduplicator
    process: type[DeliveryPipeline] = DeliveryPipeline


def flow(
    ports: Ports,
    the_rules: RetryPolicy,
    reading: RequestParser,
    parts: Parts | None = None,
    gate: OpenGate | None = None,
    intake: ConsumerControl | None = None,
) -> Dispatcher:
    """One replica's flow over the given ports, behind `gate`; None: one that is open."""
    parts, gate = parts or Parts(), gate or OpenGate()
    handler = parts.handler(the_rules, ports.dcs, gate, ports.observer, now=ports.now, random_unit=ports.random_unit)
    settler = parts.settler(
        ports.publisher, ports.observer, now=ports.now, random_unit=ports.random_unit, sleep=ports.sleep
    )
    locks = RepeatLocks(ports.locks, settle=the_rules.settle) if ports.locks else None
    process = parts.process(
        reading, the_rules, parts.copies(), ports.claims, handler, settler, ports.observer, now=ports.now, locks=locks
    )
    return Dispatcher(process, gate, ports.observer, intake)

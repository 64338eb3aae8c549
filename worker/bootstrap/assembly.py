"""Construction of a dispatcher over any ports: those of a running worker, or simulated ones."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from worker.pipeline.deduplicator import Deduplicator
from worker.pipeline.dispatcher import Dispatcher
from worker.pipeline.executor import Executor
from worker.pipeline.follow_up import FollowUp, TaskStates
from worker.pipeline.pipeline import DeliveryPipeline
from worker.pipeline.ports import (
    CLAIMS_AWAY,
    CallThrottle,
    ConsumerControl,
    Dcs,
    Observer,
    OnCreated,
    Publisher,
    SharedClaims,
)
from worker.pipeline.repeat_locks import Locks, RepeatLocks
from worker.pipeline.settler import Settler
from worker.policy.follow_up import FollowUpSettings
from worker.policy.migration_request import RequestParser
from worker.policy.retry_policy import RetryPolicy


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports of the pipeline: the rooms of a running worker, or simulated ones."""

    dcs: Dcs
    publisher: Publisher
    observer: Observer
    throttle: CallThrottle
    consumer: ConsumerControl
    claims: SharedClaims | None = None
    locks: Locks | None = None
    """For repeated requests, without claims or while Redis is away."""
    now: Callable[[], float] = time.time
    random_unit: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    on_created: OnCreated = field(default_factory=dict)


def build_follow_up(ports: Ports, calls: TaskStates, settings: FollowUpSettings) -> Dispatcher[FollowUp]:
    """The dispatcher of the watches of one replica; `ports.consumer` consumes them."""
    now, observer = ports.now, ports.observer
    settler = Settler(ports.publisher, observer, now=now, random_unit=ports.random_unit, sleep=ports.sleep)
    follow_up = FollowUp(calls, ports.throttle, ports.publisher, settler, observer, settings, now=now)
    return Dispatcher(follow_up, ports.throttle, observer, ports.consumer)


def build_dispatcher(
    ports: Ports,
    retry_policy: RetryPolicy,
    parser: RequestParser,
    deduplicator: Deduplicator,
    *,
    with_follow_up: bool = False,
) -> Dispatcher[DeliveryPipeline]:
    """The dispatcher of one replica, over these ports."""
    now, random_unit, observer = ports.now, ports.random_unit, ports.observer
    executor = Executor(
        *(retry_policy, ports.dcs, ports.throttle, observer, ports.on_created), now=now, random_unit=random_unit
    )
    settler = Settler(
        *(ports.publisher, observer),
        now=now,
        random_unit=random_unit,
        sleep=ports.sleep,
        with_follow_up=with_follow_up,
    )
    locks = RepeatLocks(ports.locks, settle=retry_policy.settle) if ports.locks else None

    async def cancel_consumer() -> None:
        if retry_policy.claims_away == "pause" and ports.claims is not None and not ports.claims.is_available:
            await ports.consumer.pause_and_wait(CLAIMS_AWAY)

    pipeline = DeliveryPipeline(
        *(parser, retry_policy, deduplicator, ports.claims, executor, settler, observer),
        now=now,
        locks=locks,
        before_hand_back=cancel_consumer,
    )
    return Dispatcher(pipeline, ports.throttle, observer, ports.consumer)

"""Construction of a worker: every part, in order, on one exit stack."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from worker.bootstrap import components
from worker.bootstrap.assembly import Ports, build_dispatcher, build_follow_up
from worker.bootstrap.rotation import CurrentBrokers, CurrentServices, RotationReport, rotation_reports
from worker.bootstrap.worker import BLOCKED, BREAKER, CREDENTIALS, PAUSES, REGION, STUCK, FollowUpParts, Worker
from worker.config import Configuration, ConfigurationError, Settings
from worker.dcs.client import DcsClient
from worker.dcs.http_client import HttpClient
from worker.dcs.task_calls import TaskCalls
from worker.observe.metrics import Metrics
from worker.observe.observer import WorkerObserver
from worker.pipeline.deduplicator import Deduplicator
from worker.pipeline.dispatcher import Dispatcher
from worker.pipeline.follow_up import FollowUp
from worker.pipeline.marker_check import MarkerCheck
from worker.pipeline.pipeline import DeliveryPipeline
from worker.pipeline.ports import CLAIMS_AWAY
from worker.pipeline.throttle import Throttle
from worker.policy.freeze_detector import TICK_SECONDS, FreezeDetector
from worker.rabbit.connection import Brokers
from worker.rabbit.connection_supervisor import ConnectionSupervisor, Session
from worker.rabbit.consumer import Consumer
from worker.rabbit.delivery import RabbitDelivery
from worker.rabbit.locks import BrokerLocks
from worker.rabbit.on_demand import OnDemandConnection
from worker.rabbit.publisher import RabbitPublisher
from worker.rabbit.queue_counts import QueueCounts
from worker.rabbit.replies import ReplyPublisher
from worker.rabbit.topology import Topology
from worker.web.server import WebServer

if TYPE_CHECKING:
    from worker.claims.redis_claims import RedisClaims

WATCHES_IN_HAND: Final = 64
"""Most watches that a replica holds at once."""


@asynccontextmanager
async def build(loaded: Configuration, observer: WorkerObserver, metrics: Metrics) -> AsyncIterator[Worker]:
    """Construct the worker. What was opened is closed in reverse order."""
    settings, nodes, services = loaded.settings, CurrentBrokers(loaded), CurrentServices(loaded)
    freeze_detector, deduplicator, refusals = FreezeDetector(components.boot_time), Deduplicator(), dict[str, str]()
    consumer: Consumer
    dispatcher: Dispatcher[DeliveryPipeline]

    def deliver(delivery: RabbitDelivery) -> None:
        dispatcher.deliver(delivery)

    async with AsyncExitStack() as stack:
        client = _dcs_client(stack, loaded, services, observer, freeze_detector)
        topology, locks = components.topology(settings), BrokerLocks(settings.queue)
        consumer = _consumer(settings, topology, observer, freeze_detector, locks, deliver)
        throttle = Throttle(components.throttle(settings), client.probe, observer, partial(_set_consumption, consumer))
        claims = await _claims(stack, loaded, observer, consumer, throttle)
        publisher = _publisher(stack, settings, nodes, topology, observer, consumer, refusals)
        traced = components.traced(publisher, observer.tracing, settings)
        marker_check = _marker_check(stack, settings, client, throttle, observer)
        ports = Ports(client, traced, observer, throttle, consumer, claims, locks, on_created=marker_check.waiting)
        policy, parser = components.retry_policy(settings), components.request_parser(settings)
        dispatcher = build_dispatcher(ports, policy, parser, deduplicator, with_follow_up=settings.follow_up)
        follow_up = _follow_up(ports, client, settings, topology, freeze_detector) if settings.follow_up else None
        counts = QueueCounts(topology, observer.queues_missing)
        supervisors = _supervisors(settings, nodes, publisher, counts.during(consumer.session), follow_up, observer)
        worker = Worker(
            *(settings, observer, dispatcher, consumer, publisher, supervisors, deduplicator, claims, throttle),
            *(counts, lambda text: str(observer.redactor.redact(text)), refusals, marker_check.facts, follow_up),
        )
        web = await _start_web_server(stack, worker, metrics)
        observer.started(**_effective(worker, web.port))
        rotations = rotation_reports(loaded, (nodes, services), observer, throttle.credentials_changed)
        stack.push_async_callback(end, asyncio.create_task(_tick(freeze_detector, observer, rotations)))
        stack.push_async_callback(end, asyncio.create_task(worker.watch_health()))
        yield worker


def _dcs_client(
    stack: AsyncExitStack,
    loaded: Configuration,
    services: CurrentServices,
    observer: WorkerObserver,
    freeze_detector: FreezeDetector,
) -> DcsClient:
    settings = loaded.settings
    if observer.tracing:
        stack.push_async_callback(observer.tracing.aclose)
    stack.push_async_callback(services.transport.aclose)
    http_client = partial(
        HttpClient,
        services.transport,
        freeze_detector=freeze_detector,
        on_call_end=observer.call_ended,
        on_call_start=observer.tracing.call_started if observer.tracing else None,
        redactor=observer.redactor,
    )
    credentials = components.credentials(loaded, http_client)
    stack.push_async_callback(credentials.aclose)
    return DcsClient(http_client(settings.dcs_timeout), credentials, settings.dcs_endpoints)


async def _claims(
    stack: AsyncExitStack, loaded: Configuration, observer: WorkerObserver, consumer: Consumer, throttle: Throttle
) -> "RedisClaims | None":
    def on_available(is_available: bool) -> None:
        if loaded.settings.claims_away == "pause":
            (consumer.resume if is_available else consumer.pause)(CLAIMS_AWAY)
            if not is_available:
                throttle.send_away("claims")

    if (claims := components.claims(loaded, observer, on_available)) is not None:
        stack.push_async_callback(claims.aclose)
        await claims.start()
    return claims


def _publisher(
    stack: AsyncExitStack,
    settings: Settings,
    nodes: Callable[[], Brokers],
    topology: Topology,
    observer: WorkerObserver,
    consumer: Consumer,
    refusals: dict[str, str],
) -> RabbitPublisher:
    def on_blocked(is_blocked: bool) -> None:
        (consumer.pause if is_blocked else consumer.resume)(BLOCKED)

    def on_stuck(queues: Sequence[str]) -> None:
        refused = f"Queues refuse copies of requests, or events: {', '.join(queues)}"
        refusals[STUCK] = f"{refused}. Check the policies that limit them."
        (consumer.pause if queues else consumer.resume)(STUCK)

    replies = ReplyPublisher(partial(OnDemandConnection, nodes, "dcs-worker replies"), observer.reply_refused)
    isolated = OnDemandConnection(nodes, "dcs-worker copies")
    stack.push_async_callback(replies.aclose)
    stack.push_async_callback(isolated.aclose)
    return RabbitPublisher(
        *(settings.queue, settings.event_exchange, topology, observer, replies, isolated),
        on_blocked=on_blocked,
        on_stuck=on_stuck,
    )


def _marker_check(
    stack: AsyncExitStack, settings: Settings, client: DcsClient, throttle: Throttle, observer: WorkerObserver
) -> MarkerCheck:
    look, report = TaskCalls(client).row, observer.marker_checked
    marker_check = MarkerCheck(settings.dcs_endpoints, look, throttle, report, settings.settle)
    stack.push_async_callback(marker_check.aclose)
    return marker_check


def _consumer(
    settings: Settings,
    topology: Topology,
    observer: WorkerObserver,
    freeze_detector: FreezeDetector,
    locks: BrokerLocks,
    deliver: Callable[[RabbitDelivery], None],
) -> Consumer:
    def on_paused(reasons: frozenset[str]) -> None:
        observer.paused({PAUSES.get(reason, reason) for reason in reasons})

    return Consumer(
        settings.queue,
        topology,
        observer.tracing.with_delivery_span(deliver) if observer.tracing else deliver,
        prefetch=settings.prefetch,
        freeze_detector=freeze_detector,
        locks=locks,
        paused=on_paused,
    )


def _follow_up(
    ports: Ports, client: DcsClient, settings: Settings, topology: Topology, freeze_detector: FreezeDetector
) -> FollowUpParts:
    """Consumer and dispatcher of watches."""
    dispatcher: Dispatcher[FollowUp]

    def deliver(delivery: RabbitDelivery) -> None:
        dispatcher.deliver(delivery)

    queue = topology.follow_up_queues[0]
    consumer = Consumer(queue, topology, deliver, prefetch=WATCHES_IN_HAND, freeze_detector=freeze_detector)
    dispatcher = build_follow_up(replace(ports, consumer=consumer), TaskCalls(client), components.follow_up(settings))
    return FollowUpParts(dispatcher, consumer)


def _supervisors(
    settings: Settings,
    nodes: Callable[[], Brokers],
    publisher: RabbitPublisher,
    consumer_session: Session,
    follow_up: FollowUpParts | None,
    observer: WorkerObserver,
) -> tuple[ConnectionSupervisor, ...]:
    sessions: dict[str, Session] = {"publisher": publisher.session, "consumer": consumer_session}
    if follow_up is not None:
        sessions["follow-up"] = follow_up.consumer.session
    return tuple(
        ConnectionSupervisor(name, nodes, session, observer, max_down_seconds=settings.broker_timeout)
        for name, session in sessions.items()
    )


def _set_consumption(consumer: Consumer, prefetch: int, paused_by: str) -> None:
    consumer.set_prefetch(prefetch)
    for why in (BREAKER, CREDENTIALS, REGION):
        (consumer.pause if PAUSES[why] == paused_by else consumer.resume)(why)


async def _start_web_server(stack: AsyncExitStack, worker: Worker, metrics: Metrics) -> WebServer:
    """Health, metrics and status page."""
    settings = worker.settings

    def exposition(accept: str) -> tuple[bytes, str]:
        metrics.set_held_back(worker.held_back)
        counts = worker.queue_counts
        metrics.set_waiting(
            counts.messages, parked_seconds=counts.parked_seconds, oldest_seconds=worker.oldest_request_seconds
        )
        return metrics.render(accept)

    web = WebServer(settings.http_host, settings.http_port, worker.check_health, exposition, worker.status)
    try:
        await web.start()
    except (OSError, UnicodeError) as error:  # UnicodeError: not a host name
        where = f"{settings.http_host} port {settings.http_port}"
        # asyncio puts "error while attempting to bind on address (...): " before the system's words.
        reason = error.strerror.rpartition(": ")[2] if isinstance(error, OSError) and error.strerror else str(error)
        problem = f"cannot listen on {where}: {reason}; set other values, or stop what listens there"
        raise ConfigurationError((f"WORKER_HTTP_HOST, WORKER_HTTP_PORT: {problem}",)) from None
    stack.push_async_callback(web.stop)
    return web


def _effective(worker: Worker, port: int) -> dict[str, object]:
    """What the worker runs with, as fields of a log line."""
    settings, (lookups, claims) = worker.settings, worker.modes
    host = settings.http_host
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    return {
        "message": f"Connected to the broker; health, metrics and status page: {url}",
        "address": host,
        "port": port,
        "queue": settings.queue,
        "regions": list(settings.dcs_endpoints),
        "credentials": settings.auth_method,
        "prefetch": settings.prefetch,
        "lookups": lookups,
        "claims": claims,
    }


async def _tick(freeze_detector: FreezeDetector, observer: WorkerObserver, rotations: Sequence[RotationReport]) -> None:
    while True:
        freeze_detector.tick()
        observer.flush()
        for rotation in rotations:
            rotation.check()
        await asyncio.sleep(TICK_SECONDS)


async def end(task: asyncio.Task[object]) -> None:
    """Cancel a task and wait until it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

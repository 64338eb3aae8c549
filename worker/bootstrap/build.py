"""Construction of a worker: every part, in order, on one exit stack."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from worker.bootstrap import components
from worker.bootstrap.assembly import Ports, build_dispatcher
from worker.bootstrap.worker import BLOCKED, BREAKER, HELD, PAUSES, REFUSED, STUCK, Worker
from worker.config import Configuration, ConfigurationError, Settings
from worker.config.settings import variable
from worker.dcs.client import DcsClient
from worker.dcs.http_client import HttpClient
from worker.observe.metrics import Metrics
from worker.observe.observer import WorkerObserver
from worker.pipeline.deduplicator import Deduplicator
from worker.pipeline.dispatcher import Dispatcher
from worker.pipeline.ports import CLAIMS_AWAY
from worker.pipeline.throttle import Throttle
from worker.policy.freeze_detector import TICK_SECONDS, FreezeDetector
from worker.policy.migration_request import RequestParser
from worker.rabbit.connection_supervisor import ConnectionSupervisor
from worker.rabbit.consumer import Consumer
from worker.rabbit.delivery import RabbitDelivery
from worker.rabbit.locks import BrokerLocks
from worker.rabbit.on_demand import OnDemandChannel
from worker.rabbit.publisher import RabbitPublisher
from worker.rabbit.queue_counts import QueueCounts
from worker.rabbit.replies import ReplyPublisher
from worker.rabbit.topology import Topology
from worker.web.server import WebServer

if TYPE_CHECKING:
    from worker.claims.redis_claims import RedisClaims


@asynccontextmanager
async def build(loaded: Configuration, observer: WorkerObserver, metrics: Metrics) -> AsyncIterator[Worker]:
    """Construct the worker. What was opened is closed in reverse order."""
    settings = loaded.settings
    freeze_detector, deduplicator = FreezeDetector(components.boot_time), Deduplicator()
    refusals: dict[str, str] = {}
    consumer: Consumer
    dispatcher: Dispatcher

    def on_credentials(refused: str | None) -> None:
        observer.credentials(refused)
        refusals[REFUSED] = refused or ""
        (consumer.pause if refused else consumer.resume)(REFUSED)

    def deliver(delivery: RabbitDelivery) -> None:
        dispatcher.deliver(delivery)

    async with AsyncExitStack() as stack:
        client = _dcs_client(stack, loaded, observer, freeze_detector, on_credentials)
        topology, locks = components.topology(settings), BrokerLocks(settings.queue)
        consumer = _consumer(settings, topology, observer, freeze_detector, locks, deliver)
        throttle = Throttle(components.throttle(settings), client.probe, observer, partial(_steer, consumer))
        claims = await _claims(stack, settings, observer, consumer, throttle)
        publisher = _publisher(stack, settings, topology, observer, consumer, refusals)
        traced = components.traced(publisher, observer.tracing, settings)
        ports = Ports(client, traced, observer, throttle, consumer, claims, locks)
        parser = RequestParser(settings.max_message_bytes, settings.dcs_endpoints, settings.dcs_region, settings.marker)
        dispatcher = build_dispatcher(ports, components.retry_policy(settings), parser, deduplicator)
        queue_counts = QueueCounts(topology)
        supervisors = _supervisors(settings, publisher, consumer, queue_counts, observer)
        worker = Worker(
            *(settings, observer, dispatcher, consumer, publisher, supervisors, deduplicator, claims, throttle),
            *(queue_counts, lambda text: str(observer.redactor.redact(text)), refusals),
        )
        web = await _start_web_server(worker, metrics)
        stack.push_async_callback(web.stop)
        observer.started(**_effective(worker, web.port))
        ticking = asyncio.create_task(_tick(freeze_detector, loaded, observer, throttle.credentials_changed))
        stack.push_async_callback(end, ticking)
        stack.push_async_callback(end, asyncio.create_task(worker.watch_health()))
        yield worker


def _dcs_client(
    stack: AsyncExitStack,
    loaded: Configuration,
    observer: WorkerObserver,
    freeze_detector: FreezeDetector,
    on_credentials: Callable[[str | None], None],
) -> DcsClient:
    settings = loaded.settings
    if observer.tracing:
        stack.push_async_callback(observer.tracing.aclose)
    transport = components.service_transport(loaded)
    stack.push_async_callback(transport.aclose)
    http_client = partial(
        HttpClient,
        transport,
        freeze_detector=freeze_detector,
        on_call_end=observer.call_ended,
        on_call_start=observer.tracing.call_started if observer.tracing else None,
    )
    credentials = components.credentials(loaded, http_client, on_credentials)
    stack.push_async_callback(credentials.aclose)
    return DcsClient(http_client(settings.dcs_timeout), credentials, settings.dcs_endpoints)


async def _claims(
    stack: AsyncExitStack, settings: Settings, observer: WorkerObserver, consumer: Consumer, throttle: Throttle
) -> "RedisClaims | None":
    def on_available(is_available: bool) -> None:
        if settings.claims_away == "pause":
            (consumer.resume if is_available else consumer.pause)(CLAIMS_AWAY)
            if not is_available:
                throttle.send_away("claims")

    if (claims := components.claims(settings, observer, on_available)) is not None:
        stack.push_async_callback(claims.aclose)
        await claims.start()
    return claims


def _publisher(
    stack: AsyncExitStack,
    settings: Settings,
    topology: Topology,
    observer: WorkerObserver,
    consumer: Consumer,
    refusals: dict[str, str],
) -> RabbitPublisher:
    def on_blocked(is_blocked: bool) -> None:
        (consumer.pause if is_blocked else consumer.resume)(BLOCKED)

    def on_stuck(queues: Sequence[str]) -> None:
        refusals[STUCK] = f"Queues refuse copies of requests: {', '.join(queues)}. Check the policies that limit them."
        (consumer.pause if queues else consumer.resume)(STUCK)

    nodes = components.brokers(settings)
    replies = ReplyPublisher(partial(OnDemandChannel, nodes, "dcs-worker replies"))
    isolated = OnDemandChannel(nodes, "dcs-worker copies")
    stack.push_async_callback(replies.aclose)
    stack.push_async_callback(isolated.aclose)
    return RabbitPublisher(
        *(settings.queue, settings.event_exchange, topology, observer, replies, isolated),
        on_blocked=on_blocked,
        on_stuck=on_stuck,
    )


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


def _supervisors(
    settings: Settings,
    publisher: RabbitPublisher,
    consumer: Consumer,
    queue_counts: QueueCounts,
    observer: WorkerObserver,
) -> tuple[ConnectionSupervisor, ...]:
    nodes = components.brokers(settings)
    sessions = {"publisher": publisher.session, "consumer": queue_counts.during(consumer.session)}
    return tuple(
        ConnectionSupervisor(name, nodes, session, observer, max_down_seconds=settings.broker_timeout)
        for name, session in sessions.items()
    )


def _steer(consumer: Consumer, prefetch: int, paused_by: str) -> None:
    consumer.set_prefetch(prefetch)
    for why in (BREAKER, HELD):
        (consumer.pause if PAUSES[why] == paused_by else consumer.resume)(why)


async def _start_web_server(worker: Worker, metrics: Metrics) -> WebServer:
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
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigurationError((f"WORKER_HTTP_HOST, WORKER_HTTP_PORT: cannot listen on {where}: {reason}",)) from None
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


async def _tick(
    freeze_detector: FreezeDetector, loaded: Configuration, observer: WorkerObserver, on_rotation: Callable[[], None]
) -> None:
    problem: str | None = None
    secrets = loaded.secrets.current()
    while True:
        freeze_detector.tick()
        observer.flush()
        if (current := loaded.secrets.current()) != secrets:
            for field in sorted(name for name in current if current[name] != secrets.get(name)):
                message = f"{variable(field)} was rotated; the next call uses the new value"
                observer.note("info", "secrets.reloaded", message=message, variable=variable(field))
            secrets = current
            observer.redactor.add(secret.get_secret_value() for secret in secrets.values())
            on_rotation()
        if loaded.secrets.problem != problem:
            problem = loaded.secrets.problem
            if problem is None:
                observer.note("info", "secrets.reloaded", message="The secret files can be read again")
            else:
                message = f"The secrets from before stay in use: {problem}"
                observer.note("warning", "secrets.reload_failed", message=message, error=problem)
        await asyncio.sleep(TICK_SECONDS)


async def end(task: asyncio.Task[object]) -> None:
    """Cancel a task and wait until it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

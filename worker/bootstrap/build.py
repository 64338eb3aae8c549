"""Everything constructed, in order, on one exit stack."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from worker.bootstrap import components
from worker.bootstrap.flows import Parts, Ports, flow
from worker.bootstrap.worker import BLOCKED, BREAKER, PAUSES, REFUSED, Worker
from worker.config import Configuration, ConfigurationError, secret_texts
from worker.dcs.client import DcsClient
from worker.dcs.http_client import HttpClient
from worker.observe.metrics import Metrics
from worker.observe.observer import Observer
from worker.observe.redaction import Redactor
from worker.pipeline.claims_or_locks import ClaimsOrLocks
from worker.pipeline.deduplicator import Deduplicator
from worker.pipeline.gate import Gate
from worker.pipeline.pipeline import RequestParser
from worker.policy.freeze_detector import TICK_SECONDS, FreezeDetector
from worker.policy.intake import Wish
from worker.policy.readiness import Readiness
from worker.policy.status import Status
from worker.rabbit.connection_supervisor import ConnectionSupervisor
from worker.rabbit.consumer import Consumer
from worker.rabbit.delivery import RabbitDelivery
from worker.rabbit.locks import BrokerLocks
from worker.rabbit.publisher import RabbitPublisher
from worker.web.server import WebServer

QUIET: Final = 5.0
"""Seconds beyond the deadline of a call until what began under a claim has surely ended."""


@asynccontextmanager
async def build(loaded: Configuration, observer: Observer, metrics: Metrics) -> AsyncIterator[Worker]:
    """Construct everything; whatever was opened is closed in reverse order."""
    settings = loaded.settings
    plan, freeze_detector = components.topology(settings), FreezeDetector(components.boot_time)
    tracing, copies = observer.tracing, Deduplicator()
    refusals: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        if tracing:
            stack.push_async_callback(tracing.aclose)
        transport = components.service_transport(loaded)
        stack.push_async_callback(transport.aclose)
        consumer: Consumer

        def http_client(deadline: float) -> HttpClient:
            on_start = tracing.call_started if tracing else None
            on_end = observer.call_ended
            return HttpClient(
                transport,
                deadline=deadline,
                freeze_detector=freeze_detector,
                on_call_end=on_end,
                on_call_start=on_start,
            )

        def on_credentials(refused: str | None) -> None:
            observer.note("error" if refused else "info", "credentials.changed", refused=refused)
            refusals[REFUSED] = f"{REFUSED}: {refused}"
            (consumer.pause if refused else consumer.resume)(REFUSED)

        proof = components.credentials(loaded, http_client, on_credentials)
        stack.push_async_callback(proof.aclose)
        client = DcsClient(http_client(settings.dcs_timeout), proof, settings.dcs_endpoints)
        if (claims := components.claims(settings, observer)) is not None:
            stack.push_async_callback(claims.aclose)
            await claims.start()

        def on_blocked(is_blocked: bool) -> None:
            (consumer.pause if is_blocked else consumer.resume)(BLOCKED)

        def on_paused(reasons: frozenset[str]) -> None:
            observer.paused({PAUSES.get(reason, reason) for reason in reasons})

        publisher = RabbitPublisher(settings.queue, settings.event_exchange, plan, observer, on_blocked=on_blocked)
        reading = RequestParser(
            settings.max_message_bytes, settings.dcs_endpoints, settings.dcs_region, settings.marker
        )
        locks = BrokerLocks(settings.queue)
        shared = ClaimsOrLocks(claims, locks, quiet=settings.dcs_timeout + QUIET) if claims else None
        told = components.traced(publisher, tracing, settings)
        ports = Ports(client, told, observer, shared, None if claims else locks)

        def deliver(delivery: RabbitDelivery) -> None:
            service.deliver(delivery)

        consumer = Consumer(
            settings.queue,
            plan,
            tracing.with_delivery_span(deliver) if tracing else deliver,
            prefetch=settings.prefetch,
            freeze_detector=freeze_detector,
            locks=locks,
            paused=on_paused,
        )
        gate = Gate(components.bounds(settings), observer, steer=partial(_steer, consumer))
        service = flow(ports, components.rules(settings), reading, Parts(copies=lambda: copies), gate, consumer)
        gate.changed()
        nodes = components.brokers(settings)
        supervisors = tuple(
            ConnectionSupervisor(name, nodes, session, observer, max_down_seconds=settings.broker_patience)
            for name, session in (("publisher", publisher.session), ("consumer", consumer.session))
        )
        worker = Worker(settings, observer, service, consumer, publisher, supervisors, copies, claims, gate, refusals)
        web = await _serving(worker, metrics)
        stack.push_async_callback(web.stop)
        beating = asyncio.create_task(_beat(freeze_detector, loaded, observer))
        stack.push_async_callback(end, beating)
        yield worker


def _steer(consumer: Consumer, wish: Wish) -> None:
    consumer.set_prefetch(wish.prefetch)
    (consumer.pause if wish.is_paused else consumer.resume)(BREAKER)


async def _serving(worker: Worker, metrics: Metrics) -> WebServer:
    """The pages. What others say of themselves is shown without secrets."""
    settings = worker.settings
    redactor = Redactor(secret_texts(settings))

    def redact(text: str) -> str:
        return str(redactor.redact(text))

    def readiness() -> Readiness:
        found = worker.readiness
        return replace(found, reason=redact(found.reason))

    def status() -> Status:
        return worker.status(redact)

    def exposition(accept: str) -> tuple[bytes, str]:
        metrics.set_held_back(worker.held_back)
        return metrics.render(accept)

    web = WebServer(settings.http_host, settings.http_port, readiness, exposition, status)
    try:
        await web.start()
    except (OSError, UnicodeError) as error:  # a name that is none fails in its encoding
        where = f"{settings.http_host} port {settings.http_port}"
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigurationError((f"WORKER_HTTP_HOST, WORKER_HTTP_PORT: cannot listen on {where}: {reason}",)) from None
    return web


async def _beat(freeze_detector: FreezeDetector, loaded: Configuration, observer: Observer) -> None:
    fault: str | None = None
    while True:
        freeze_detector.tick()
        if loaded.secrets.problem != fault:
            fault = loaded.secrets.problem
            observer.note("warning" if fault else "info", "secrets.read", fault=fault)
        await asyncio.sleep(TICK_SECONDS)


async def end(task: asyncio.Task[object]) -> None:
    """Cancel a task and wait until it is over."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

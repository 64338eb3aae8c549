"""Everything constructed, in order, on one exit stack."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from worker.bootstrap import from_settings
from worker.bootstrap.flows import Parts, Ports, flow
from worker.bootstrap.replica import BLOCKED, BREAKER, PAUSES, REFUSED, Worker
from worker.config import Configuration, ConfigurationError, secret_texts
from worker.dcs.client import DcsClient
from worker.dcs.http_client import HttpClient
from worker.flow.copies import Copies
from worker.flow.fallback import ClaimsOrLocks
from worker.flow.gate import Gate
from worker.flow.process import Reading
from worker.observe.metrics import Metrics
from worker.observe.observer import Observer
from worker.observe.redaction import Redactor
from worker.policy.intake import Wish
from worker.policy.pulse import BEAT, Pulse
from worker.policy.readiness import Readiness
from worker.policy.status import Status
from worker.rabbit.consumer import Consumer
from worker.rabbit.link import Link
from worker.rabbit.locks import BrokerLocks
from worker.rabbit.publisher import Publisher
from worker.web.server import WebServer

QUIET: Final = 5.0
"""Seconds beyond the deadline of a call until what began under a claim has surely ended."""


@asynccontextmanager
async def build(loaded: Configuration, observer: Observer, metrics: Metrics) -> AsyncIterator[Worker]:
    """Construct everything; whatever was opened is closed in reverse order."""
    settings = loaded.settings
    plan, pulse = from_settings.topology(settings), Pulse(from_settings.boot_time)
    tracing, copies = observer.tracing, Copies()
    refusals: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        if tracing:
            stack.push_async_callback(tracing.aclose)
        transport = from_settings.service_transport(loaded)
        stack.push_async_callback(transport.aclose)
        consumer: Consumer

        def http_client(deadline: float) -> HttpClient:
            on_start = tracing.call_started if tracing else None
            on_end = observer.call_ended
            return HttpClient(transport, deadline=deadline, pulse=pulse, on_call_end=on_end, on_call_start=on_start)

        def on_credentials(refused: str | None) -> None:
            observer.note("error" if refused else "info", "credentials.changed", refused=refused)
            refusals[REFUSED] = f"{REFUSED}: {refused}"
            (consumer.pause if refused else consumer.resume)(REFUSED)

        proof = from_settings.credentials(loaded, http_client, on_credentials)
        stack.push_async_callback(proof.aclose)
        client = DcsClient(http_client(settings.dcs_timeout), proof, settings.dcs_endpoints)
        if (claims := from_settings.claims(settings, observer)) is not None:
            stack.push_async_callback(claims.aclose)
            await claims.start()

        def on_blocked(is_blocked: bool) -> None:
            (consumer.pause if is_blocked else consumer.resume)(BLOCKED)

        def on_paused(reasons: frozenset[str]) -> None:
            observer.paused({PAUSES.get(reason, reason) for reason in reasons})

        publisher = Publisher(settings.queue, settings.event_exchange, plan, observer, on_blocked=on_blocked)
        reading = Reading(settings.max_message_bytes, settings.dcs_endpoints, settings.dcs_region, settings.marker)
        locks = BrokerLocks(settings.queue)
        shared = ClaimsOrLocks(claims, locks, quiet=settings.dcs_timeout + QUIET) if claims else None
        told = from_settings.traced(publisher, tracing, settings)
        ports = Ports(client, told, observer, shared, None if claims else locks)
        gate = Gate(from_settings.bounds(settings), observer)
        service = flow(ports, from_settings.rules(settings), reading, Parts(copies=lambda: copies), gate)
        deliver = tracing.with_delivery_span(service.deliver) if tracing else service.deliver
        consumer = Consumer(
            settings.queue, plan, deliver, prefetch=settings.prefetch, pulse=pulse, locks=locks, paused=on_paused
        )
        service.intake = consumer
        gate.steer = partial(_steer, consumer)
        gate.changed()
        nodes = from_settings.brokers(settings)
        links = tuple(
            Link(name, nodes, session, observer, patience=settings.broker_patience)
            for name, session in (("publisher", publisher.session), ("consumer", consumer.session))
        )
        worker = Worker(settings, observer, service, consumer, publisher, links, copies, claims, gate, refusals)
        web = await _serving(worker, metrics)
        stack.push_async_callback(web.stop)
        beating = asyncio.create_task(_beat(pulse, loaded, observer))
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
    except OSError as error:
        where = f"{settings.http_host} port {settings.http_port}"
        reason = error.strerror or str(error)
        raise ConfigurationError((f"WORKER_HTTP_HOST, WORKER_HTTP_PORT: cannot listen on {where}: {reason}",)) from None
    return web


async def _beat(pulse: Pulse, loaded: Configuration, observer: Observer) -> None:
    fault: str | None = None
    while True:
        pulse.beat()
        if loaded.secrets.problem != fault:
            fault = loaded.secrets.problem
            observer.note("warning" if fault else "info", "secrets.read", fault=fault)
        await asyncio.sleep(BEAT)


async def end(task: asyncio.Task[object]) -> None:
    """Cancel a task and wait until it is over."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

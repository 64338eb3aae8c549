"""The only file that constructs things: in order, on one exit stack, and unbuilt in reverse."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from worker import __version__
from worker.claims.claims import RedisClaims
from worker.config import Loaded, Settings
from worker.dcs.client import DcsClient
from worker.dcs.credentials import Credentials
from worker.dcs.exchange import Exchange, transport
from worker.dcs.token_call import Account
from worker.dcs.ways import Surroundings, credentials_for
from worker.flow.copies import Copies
from worker.flow.gate import OpenGate
from worker.flow.handle import Handler
from worker.flow.ports import Claims, Dcs
from worker.flow.ports import Observer as ObserverPort
from worker.flow.ports import Publisher as PublisherPort
from worker.flow.process import Process, Reading
from worker.flow.service import Service
from worker.flow.settle import Settler
from worker.observe.metrics import Metrics
from worker.observe.observer import Observer
from worker.policy.pulse import BEAT, Pulse
from worker.policy.readiness import Readiness
from worker.policy.rules import Rules
from worker.rabbit.connect import Brokers, tls_context
from worker.rabbit.consumer import Consumer
from worker.rabbit.link import BrokerLostError, Link
from worker.rabbit.publisher import Publisher
from worker.rabbit.topology import Topology, TopologyError, describe
from worker.web.server import WebServer

DONE: Final = 0
UNAVAILABLE: Final = 69
CONFIGURATION: Final = 78


@dataclass(frozen=True, slots=True)
class Ports:
    """What the flow works with: the rooms of a running worker, or their stand-ins in a proof."""

    dcs: Dcs
    publisher: PublisherPort
    observer: ObserverPort
    claims: Claims | None = None
    now: Callable[[], float] = time.time
    chance: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


@dataclass(frozen=True, slots=True)
class Parts:
    """What the flow is made of."""

    handler: type[Handler] = Handler
    settler: type[Settler] = Settler
    copies: type[Copies] = Copies
    process: type[Process] = Process


def flow(ports: Ports, the_rules: Rules, reading: Reading, parts: Parts | None = None) -> Service:
    """One replica's flow over the given ports."""
    parts = parts or Parts()
    gate = OpenGate()
    handler = parts.handler(the_rules, ports.dcs, gate, ports.observer, now=ports.now, chance=ports.chance)
    settler = parts.settler(ports.publisher, ports.observer, now=ports.now, chance=ports.chance, sleep=ports.sleep)
    process = parts.process(
        reading, the_rules, parts.copies(), ports.claims, handler, settler, ports.observer, now=ports.now
    )
    return Service(process, gate, ports.observer)


@dataclass(slots=True)
class Worker:
    """The built worker."""

    settings: Settings
    observer: Observer
    web: WebServer
    service: Service
    consumer: Consumer
    publisher: Publisher
    links: tuple[Link, ...]

    @property
    def readiness(self) -> Readiness:
        """Whether it consumes, and if not, why."""
        broken = [f"{link.name}: {link.state}" for link in self.links if not link.is_up]
        if broken:
            return Readiness(False, "; ".join(broken))
        if self.publisher.is_blocked:
            return Readiness(False, "the broker blocks publishing (memory or disk alarm)")
        if not self.consumer.is_consuming and self.consumer.pauses != {"quarantine"}:
            return Readiness(False, ", ".join(sorted(self.consumer.pauses)) or "not consuming yet")
        return Readiness(True, "consuming")


def topology(settings: Settings) -> Topology:
    """What the settings ask of the broker."""
    return describe(settings.queue, settings.request_exchange, settings.event_exchange, settings.retry_delays)


def brokers(settings: Settings) -> Brokers:
    """The broker's nodes, and TLS if they speak it."""
    urls = tuple(url.get_secret_value() for url in settings.amqp_url)
    if not urls[0].startswith("amqps:"):
        return Brokers(urls)
    files = (settings.amqp_ca_file, settings.amqp_cert_file, settings.amqp_key_file)
    return Brokers(urls, tls_context(*(str(path) if path else None for path in files)))


def rules(settings: Settings) -> Rules:
    """The settings that decisions are made by."""
    return Rules(
        delays=settings.retry_delays,
        tries=settings.tries,
        reconcile=settings.reconcile,
        settle=settings.settle,
        delivery_limit=settings.delivery_limit,
    )


def credentials(
    loaded: Loaded, exchange: Callable[[float], Exchange], changed: Callable[[str | None], None]
) -> Credentials:
    """How calls of the service prove who makes them; `changed` is told why nobody can, and None when that is over."""
    settings = loaded.settings
    account = None
    if settings.credential_way == "iam":
        assert settings.iam_endpoint is not None
        assert settings.iam_user is not None
        assert settings.iam_domain is not None
        account = Account(settings.iam_endpoint, settings.iam_user, settings.iam_domain)
    surroundings = Surroundings(account, settings.credentials_file)
    return credentials_for(settings.credential_way, loaded.secrets.current, surroundings, exchange, changed=changed)


@asynccontextmanager
async def build(loaded: Loaded, observer: Observer, metrics: Metrics) -> AsyncIterator[Worker]:
    """Construct everything; whatever was opened is closed in reverse order."""
    settings = loaded.settings
    plan = topology(settings)
    pulse = Pulse(lambda: time.clock_gettime(time.CLOCK_BOOTTIME))
    async with AsyncExitStack() as stack:
        wire = transport(str(settings.dcs_ca_file) if settings.dcs_ca_file else None)
        stack.push_async_callback(wire.aclose)
        consumer: Consumer

        def exchange(deadline: float) -> Exchange:
            return Exchange(wire, deadline=deadline, told=observer.call_ended, pulse=pulse)

        def on_credentials(refused: str | None) -> None:
            observer.note("error" if refused else "info", "credentials.changed", refused=refused)
            (consumer.pause if refused else consumer.resume)("the credentials are refused")

        proof = credentials(loaded, exchange, on_credentials)
        stack.push_async_callback(proof.aclose)
        client = DcsClient(exchange(settings.dcs_timeout), proof, settings.dcs_endpoints)
        claims: RedisClaims | None = None
        if settings.claims_url is not None:
            claims = RedisClaims(settings.claims_url.get_secret_value(), observer)
            stack.push_async_callback(claims.aclose)
            await claims.start()

        def on_blocked(is_blocked: bool) -> None:
            (consumer.pause if is_blocked else consumer.resume)("the broker blocks publishing")

        publisher = Publisher(settings.queue, settings.event_exchange, plan, observer, on_blocked=on_blocked)
        reading = Reading(settings.max_message_bytes, settings.dcs_endpoints, settings.dcs_region, settings.marker)
        service = flow(Ports(client, publisher, observer, claims), rules(settings), reading)
        consumer = Consumer(settings.queue, plan, service.deliver, prefetch=settings.prefetch, pulse=pulse)
        service.intake = consumer
        nodes = brokers(settings)
        links = tuple(
            Link(name, nodes, session, observer, patience=settings.broker_patience)
            for name, session in (("publisher", publisher.session), ("consumer", consumer.session))
        )

        def readiness() -> Readiness:
            return worker.readiness

        web = WebServer(settings.http_host, settings.http_port, readiness, metrics.render, dict)
        worker = Worker(settings, observer, web, service, consumer, publisher, links)
        await web.start()
        stack.push_async_callback(web.stop)
        beating = asyncio.create_task(_beat(pulse))
        stack.push_async_callback(_end, beating)
        yield worker


async def run(loaded: Loaded, observer: Observer, metrics: Metrics, stop: asyncio.Event) -> int:
    """Work until `stop` is set, then drain; the exit status."""
    observer.note("info", "worker.starting", version=__version__, queue=loaded.settings.queue)
    for warning in loaded.warnings:
        observer.note("warning", "config.warning", message=warning)
    async with build(loaded, observer, metrics) as worker:
        running = [asyncio.create_task(link.run(), name=link.name) for link in worker.links]
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((stopping, *running), return_when=asyncio.FIRST_COMPLETED)
            status = _status(running, observer)
            await _drain(worker)
        finally:
            for task in (stopping, *running):
                await _end(task)
    observer.note("info", "worker.stopped", status=status)
    return status


def _status(running: list[asyncio.Task[None]], observer: Observer) -> int:
    """What a link that gave up means; DONE if none did."""
    for task in running:
        error = task.exception() if task.done() else None
        match error:
            case None:
                continue
            case TopologyError():
                for difference in error.differences:
                    observer.note("error", "topology.differs", message=difference)
                return CONFIGURATION
            case BrokerLostError():
                observer.note("error", "broker.lost", message=str(error))
                return UNAVAILABLE
            case _:
                raise error
    return DONE


async def _drain(worker: Worker) -> None:
    """Law 10. What is left past the deadline stays unsettled, which law 3 makes safe."""
    worker.observer.note("info", "worker.draining", in_flight=worker.service.in_flight)
    left = await worker.service.drain(worker.consumer, worker.settings.drain)
    with suppress(Exception):
        await worker.consumer.flush()
    worker.observer.note("info", "worker.drained", left=left)


async def _beat(pulse: Pulse) -> None:
    while True:
        pulse.beat()
        await asyncio.sleep(BEAT)


async def _end(task: asyncio.Task[object]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

"""The only file that constructs things: in order, on one exit stack, and unbuilt in reverse."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from worker import __version__
from worker.config import ConfigurationError, Loaded, Settings, secret_texts
from worker.config import describe as described
from worker.dcs.client import DcsClient
from worker.dcs.credentials import Credentials
from worker.dcs.exchange import Exchange
from worker.dcs.token_call import Account
from worker.dcs.transport import Transport, transport
from worker.dcs.ways import Surroundings, credentials_for
from worker.flow import explain
from worker.flow.copies import Copies
from worker.flow.fallback import ClaimsOrLocks, Locks
from worker.flow.feeds import feeds
from worker.flow.gate import Gate, OpenGate
from worker.flow.handle import Handler
from worker.flow.ports import Claims, Dcs
from worker.flow.ports import Observer as ObserverPort
from worker.flow.ports import Publisher as PublisherPort
from worker.flow.process import Process, Reading
from worker.flow.repeats import LocksForRepeats
from worker.flow.service import Service
from worker.flow.settle import Settler
from worker.observe.mask import Mask
from worker.observe.metrics import Metrics
from worker.observe.observer import Observer
from worker.policy.bounds import Bounds
from worker.policy.held import Held
from worker.policy.intake import Wish
from worker.policy.pulse import BEAT, Pulse
from worker.policy.readiness import Readiness
from worker.policy.replicas import Replicas
from worker.policy.rules import Rules
from worker.policy.status import Connection, InHand, State, Status
from worker.rabbit.connect import Brokers, tls_context
from worker.rabbit.consumer import Consumer
from worker.rabbit.link import BrokerLostError, Link
from worker.rabbit.locks import BrokerLocks
from worker.rabbit.publisher import Publisher
from worker.rabbit.topology import Topology, TopologyError, describe
from worker.web.server import WebServer

if TYPE_CHECKING:
    from worker.claims.claims import RedisClaims
    from worker.observe.tracing import Tracing

QUIET: Final = 5.0
"""Seconds beyond the deadline of a call until what began under a claim has surely ended."""
FLUSH: Final = 2.0
"""Seconds for the broker to have read the last acknowledgements."""
DONE: Final = 0
UNAVAILABLE: Final = 69
CONFIGURATION: Final = 78

BREAKER: Final = "the breaker is open"
"""Why consumption pauses while the service is sick, which is no fault of this replica."""
REFUSED: Final = "the credentials are refused"
BLOCKED: Final = "the broker blocks publishing"
PAUSES: Final = {BREAKER: "breaker", REFUSED: "credentials", BLOCKED: "blocked"}
"""Reasons to pause and what metrics call them; others are called what they are."""


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
    chance: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


@dataclass(frozen=True, slots=True)
class Parts:
    """What the flow is made of."""

    handler: type[Handler] = Handler
    settler: type[Settler] = Settler
    copies: Callable[[], Copies] = Copies
    process: type[Process] = Process


def flow(
    ports: Ports, the_rules: Rules, reading: Reading, parts: Parts | None = None, gate: OpenGate | None = None
) -> Service:
    """One replica's flow over the given ports, behind `gate`; None: one that is open."""
    parts, gate = parts or Parts(), gate or OpenGate()
    handler = parts.handler(the_rules, ports.dcs, gate, ports.observer, now=ports.now, chance=ports.chance)
    settler = parts.settler(ports.publisher, ports.observer, now=ports.now, chance=ports.chance, sleep=ports.sleep)
    process = parts.process(
        reading, the_rules, parts.copies(), ports.claims, handler, settler, ports.observer, now=ports.now
    )
    if ports.locks:
        process.locks = LocksForRepeats(ports.locks, settle=the_rules.settle)
    return Service(process, gate, ports.observer)


@dataclass(slots=True)
class Worker:
    """The built worker."""

    settings: Settings
    observer: Observer
    service: Service
    consumer: Consumer
    publisher: Publisher
    links: tuple[Link, ...]
    copies: Copies
    claims: "RedisClaims | None"
    gate: Gate
    refusals: Mapping[str, str] = field(default_factory=dict)
    """What is known of a reason to pause besides its name."""
    started: float = field(default_factory=time.time)

    @property
    def readiness(self) -> Readiness:
        """Whether it consumes, and if not, why."""
        broken = [f"{link.name}: {link.state}" for link in self.links if not link.is_up]
        if broken:
            return Readiness(False, "; ".join(broken))
        if self.publisher.is_blocked:
            return Readiness(False, "the broker blocks publishing (memory or disk alarm)")
        pauses, lanes = self.consumer.pauses, self.gate.lanes
        details = {"regions": {region: explain.facts(lane) for region, lane in lanes.items()}}
        if not self.consumer.is_consuming and (not pauses or pauses - {"quarantine", BREAKER}):
            said = sorted(self.refusals.get(pause, pause) for pause in pauses)
            return Readiness(False, ", ".join(said) or "not consuming yet", details)
        doing = "paused by the breaker" if BREAKER in pauses else "consuming"
        return Readiness(True, "; ".join((doing, *explain.reasons(lanes.values()))), details)

    @property
    def held_back(self) -> dict[str, Held]:
        """What holds the requests for each region back, in numbers."""
        epoch = time.time() - time.monotonic()
        return {region: explain.held(lane, epoch) for region, lane in self.gate.lanes.items()}

    @property
    def state(self) -> State:
        """What it does, in a word."""
        if "draining" in self.consumer.pauses:
            return "draining"
        if self.consumer.pauses:
            return "paused"
        return "consuming" if self.readiness.is_ready else "waiting"

    @property
    def connections(self) -> tuple[Connection, ...]:
        """What it lives on; states may be told by others, in words of theirs."""
        broker = [Connection(f"broker, {link.name}", link.state, link.is_up) for link in self.links]
        if self.publisher.is_blocked:
            broker.append(Connection("broker", "blocks publishing (memory or disk alarm)", False))
        if self.claims is None:
            return (*broker, Connection("Redis", "not configured", None))
        is_available = self.claims.is_available
        return (*broker, Connection("Redis", "available" if is_available else "away", is_available))

    @property
    def replicas(self) -> Replicas:
        """What is known of how many replicas are of use."""
        return Replicas(
            count=self.consumer.consumers,
            ready=self.consumer.backlog,
            hands=self.settings.prefetch,
            minute=self.observer.activity.minute(),
            feeds=feeds(self.gate.lanes.values()),
            rate=self.settings.dcs_rate,
            is_held=bool(self.consumer.pauses - {"quarantine", "draining", BREAKER}),
        )

    def status(self, clean: Callable[[str], str]) -> Status:
        """Everything worth showing; `clean` takes secrets out of what others said."""
        now = time.monotonic()
        flights = [InHand(*key, now - flight.since) for key, flight in self.copies.flights.items()]
        return Status(
            version=__version__,
            state=self.state,
            now=time.time(),
            started=self.started,
            backlog=self.consumer.backlog,
            in_flight=self.service.in_flight,
            prefetch=self.settings.prefetch,
            in_hand=tuple(sorted(flights, key=lambda one: -one.seconds)),
            activity=self.observer.activity.read(clean),
            regions={
                region: {**explain.facts(self.gate.lanes[region]), "endpoint": url}
                for region, url in self.settings.dcs_endpoints.items()
            },
            connections=tuple(replace(one, state=clean(one.state)) for one in self.connections),
            settings=tuple(described(self.settings)),
        )


def topology(settings: Settings) -> Topology:
    """What the settings ask of the broker."""
    return describe(settings.queue, settings.request_exchange, settings.event_exchange, settings.retry_delays)


def brokers(settings: Settings) -> Brokers:
    """The broker's nodes, and TLS if they speak it."""
    urls = tuple(url.get_secret_value() for url in settings.amqp_url)
    if not urls[0].startswith("amqps:"):
        return Brokers(urls)
    files = (settings.amqp_ca_file, settings.amqp_cert_file, settings.amqp_key_file)
    try:
        return Brokers(urls, tls_context(*(str(path) if path else None for path in files)))
    except OSError as error:  # SSLError is one
        names = "WORKER_AMQP_CA_FILE, WORKER_AMQP_CERT_FILE, WORKER_AMQP_KEY_FILE"
        raise ConfigurationError((f"{names}: cannot be used: {error}",)) from None


def rules(settings: Settings) -> Rules:
    """The settings that decisions are made by."""
    return Rules(
        delays=settings.retry_delays,
        tries=settings.tries,
        reconcile=settings.reconcile,
        settle=settings.settle,
        delivery_limit=settings.delivery_limit,
    )


def bounds(settings: Settings) -> Bounds:
    """The settings that keep the service from being asked too much."""
    return Bounds(
        regions=tuple(settings.dcs_endpoints),
        prefetch=settings.prefetch,
        deadline=settings.dcs_timeout,
        delays=settings.retry_delays,
        rate=settings.dcs_rate,
    )


def _steer(consumer: Consumer, wish: Wish) -> None:
    consumer.set_prefetch(wish.prefetch)
    (consumer.pause if wish.is_paused else consumer.resume)(BREAKER)


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


def tracing(settings: Settings) -> "Tracing | None":
    """Tracing if it is on. Raises ConfigurationError when it cannot be."""
    if settings.otlp_endpoint is None:
        return None
    try:
        from worker.observe.exporting import start_tracing  # noqa: PLC0415 - costs nothing while it is off
    except ModuleNotFoundError:
        missing = "tracing needs packages that are not installed: pip install 'dcs-migration-worker[tracing]'"
        raise ConfigurationError((f"OTEL_EXPORTER_OTLP_ENDPOINT: {missing}",)) from None
    try:
        return start_tracing(settings.otlp_endpoint, settings.queue, __version__)
    except ValueError as error:
        raise ConfigurationError((f"OTEL_…: OpenTelemetry refuses its settings: {error}",)) from None


def _traced(publisher: Publisher, tracing: "Tracing | None", settings: Settings) -> PublisherPort:
    if tracing is None:
        return publisher
    from worker.observe.traced import TracedPublisher  # noqa: PLC0415 - as above

    return TracedPublisher(publisher, tracing, settings.queue, settings.event_exchange)


def _claims(settings: Settings, observer: Observer) -> "RedisClaims | None":
    if settings.claims_url is None:
        return None
    from worker.claims.claims import RedisClaims  # noqa: PLC0415 - as above, and what redis-py brings along

    return RedisClaims(settings.claims_url.get_secret_value(), observer, clock=_boot_time)


@asynccontextmanager
async def build(loaded: Loaded, observer: Observer, metrics: Metrics) -> AsyncIterator[Worker]:
    """Construct everything; whatever was opened is closed in reverse order."""
    settings = loaded.settings
    plan, pulse = topology(settings), Pulse(_boot_time)
    tracing, copies = observer.tracing, Copies()
    refusals: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        if tracing:
            stack.push_async_callback(tracing.aclose)
        wire = _wire(settings)
        stack.push_async_callback(wire.aclose)
        consumer: Consumer

        def exchange(deadline: float) -> Exchange:
            begun = tracing.begun if tracing else None
            return Exchange(wire, deadline=deadline, told=observer.call_ended, pulse=pulse, begun=begun)

        def on_credentials(refused: str | None) -> None:
            observer.note("error" if refused else "info", "credentials.changed", refused=refused)
            refusals[REFUSED] = f"{REFUSED}: {refused}"
            (consumer.pause if refused else consumer.resume)(REFUSED)

        proof = credentials(loaded, exchange, on_credentials)
        stack.push_async_callback(proof.aclose)
        client = DcsClient(exchange(settings.dcs_timeout), proof, settings.dcs_endpoints)
        if (claims := _claims(settings, observer)) is not None:
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
        ports = Ports(client, _traced(publisher, tracing, settings), observer, shared, None if claims else locks)
        gate = Gate(bounds(settings), observer)
        service = flow(ports, rules(settings), reading, Parts(copies=lambda: copies), gate)
        deliver = tracing.delivering(service.deliver) if tracing else service.deliver
        consumer = Consumer(settings.queue, plan, deliver, prefetch=settings.prefetch, pulse=pulse, paused=on_paused)
        consumer.locks = locks
        service.intake = consumer
        gate.steer = partial(_steer, consumer)
        gate.changed()
        nodes = brokers(settings)
        links = tuple(
            Link(name, nodes, session, observer, patience=settings.broker_patience)
            for name, session in (("publisher", publisher.session), ("consumer", consumer.session))
        )
        worker = Worker(settings, observer, service, consumer, publisher, links, copies, claims, gate, refusals)
        web = await _serving(worker, metrics)
        stack.push_async_callback(web.stop)
        beating = asyncio.create_task(_beat(pulse, loaded, observer))
        stack.push_async_callback(_end, beating)
        yield worker


def _wire(settings: Settings) -> Transport:
    try:
        return transport(str(settings.dcs_ca_file) if settings.dcs_ca_file else None)
    except OSError as error:  # SSLError is one
        raise ConfigurationError((f"WORKER_DCS_CA_FILE: cannot be used: {error}",)) from None


async def _serving(worker: Worker, metrics: Metrics) -> WebServer:
    """The pages. What others say of themselves is shown without secrets."""
    metrics.needed_replicas.set_function(lambda: worker.replicas.needed)
    metrics.useful_replicas.set_function(lambda: worker.replicas.useful)
    settings = worker.settings
    mask = Mask(secret_texts(settings))

    def clean(text: str) -> str:
        return str(mask.clean(text))

    def readiness() -> Readiness:
        found = worker.readiness
        return replace(found, reason=clean(found.reason))

    def status() -> Status:
        return worker.status(clean)

    def exposition(accept: str) -> tuple[bytes, str]:
        metrics.held_back(worker.held_back)
        return metrics.render(accept)

    web = WebServer(settings.http_host, settings.http_port, readiness, exposition, status)
    try:
        await web.start()
    except OSError as error:
        where = f"{settings.http_host} port {settings.http_port}"
        reason = error.strerror or str(error)
        raise ConfigurationError((f"WORKER_HTTP_HOST, WORKER_HTTP_PORT: cannot listen on {where}: {reason}",)) from None
    return web


async def run(loaded: Loaded, observer: Observer, metrics: Metrics, stop: asyncio.Event) -> int:
    """Work until `stop` is set, then drain; the exit status. Raises ConfigurationError when it cannot listen."""
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
        async with asyncio.timeout(FLUSH):
            await worker.consumer.flush()
    worker.observer.note("info", "worker.drained", left=left)


def _boot_time() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while the machine sleeps


async def _beat(pulse: Pulse, loaded: Loaded, observer: Observer) -> None:
    fault: str | None = None
    while True:
        pulse.beat()
        if loaded.secrets.fault != fault:
            fault = loaded.secrets.fault
            observer.note("warning" if fault else "info", "secrets.read", fault=fault)
        await asyncio.sleep(BEAT)


async def _end(task: asyncio.Task[object]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

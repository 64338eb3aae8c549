"""All checks of `doctor` at the same time, each part with a timeout; findings before a timeout are kept."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from worker.bootstrap import components
from worker.claims.checks import VARIABLE as CLAIMS_URL
from worker.claims.checks import check_redis
from worker.cli.doctor.configuration import DoctorOptions, check_settings
from worker.cli.doctor.network import Address, check_port, find_problem
from worker.config import Configuration, ConfigurationError, Settings
from worker.dcs.auth.credentials import Credentials
from worker.dcs.checks import check_service
from worker.dcs.findings import CREDENTIALS, Service
from worker.dcs.http_client import HttpClient
from worker.dcs.transport import ServiceTransport
from worker.policy.diagnostics import Check, FailureKind, OnCheck, Problem, failed, ok, unchecked, warning
from worker.policy.freeze_detector import FreezeDetector
from worker.rabbit.checks import Door, LoginRefused, Node, entered, version
from worker.rabbit.connect import Brokers
from worker.rabbit.inventory import check_topology
from worker.rabbit.management import check_management, without_management
from worker.rabbit.topology import Topology

PART_TIMEOUT_SECONDS: Final = 45.0
"""For each part; the parts run at the same time."""


async def run_checks(loaded: Configuration, options: DoctorOptions) -> list[Check]:
    """All findings, in the order in which a request passes what was checked."""
    settings = loaded.settings
    consumers: list[int | None] = [None]

    async def broker(on_check: OnCheck) -> None:
        consumers[0] = await _check_broker(settings, options.management, on_check)

    parts: tuple[tuple[str, Callable[[OnCheck], Awaitable[None]]], ...] = (
        ("broker", broker),
        ("Redis", lambda on_check: _check_redis(settings, on_check)),
        ("DCS", lambda on_check: check_dcs(loaded, options, on_check)),
        ("HTTP port", lambda on_check: _check_port(settings, on_check)),
    )
    found = await asyncio.gather(*(_within_deadline(name, part) for name, part in parts))
    settings_checks = check_settings(settings, consumers[0], has_credentials=options.has_credentials)
    return [*settings_checks, *(check for checks in found for check in checks)]


async def _within_deadline(name: str, part: Callable[[OnCheck], Awaitable[None]]) -> list[Check]:
    checks: list[Check] = []
    try:
        async with asyncio.timeout(PART_TIMEOUT_SECONDS):
            await part(checks.append)
    except TimeoutError:
        found = f"not finished within {PART_TIMEOUT_SECONDS:g} s"
        checks.append(failed(name, found, "repeat dcs-worker doctor", failure_kind=FailureKind.UNREACHABLE))
    return checks


async def _check_broker(settings: Settings, management: str | None, on_check: OnCheck) -> int | None:
    try:
        brokers = components.brokers(settings)
    except (ConfigurationError, OSError):  # ssl.SSLError is an OSError
        remedy = (
            "correct WORKER_AMQP_CA_FILE, WORKER_AMQP_CERT_FILE and WORKER_AMQP_KEY_FILE: PEM, key without password"
        )
        found = "the TLS files contain no CA certificates, or no certificate with its key"
        on_check(failed("broker", found, remedy, failure_kind=FailureKind.CONFIGURATION))
        return None
    return await check_broker(brokers, components.topology(settings), management, on_check)


async def _check_redis(settings: Settings, on_check: OnCheck) -> None:
    if settings.claims_url is None:
        on_check(unchecked("Redis", f"not configured: {CLAIMS_URL} is not set"))
        return
    url = settings.claims_url.get_secret_value()
    problem = None if settings.claims_url.scheme == "unix" else await find_problem(Address.of(url, 6379, CLAIMS_URL))
    if problem is not None:
        on_check(failed("Redis", problem.found, problem.remedy, failure_kind=FailureKind.UNREACHABLE))
        return
    await check_redis(url, on_check)


async def _check_port(settings: Settings, on_check: OnCheck) -> None:
    on_check(await check_port(settings.http_host, settings.http_port))


URL_VARIABLE: Final = "WORKER_AMQP_URL"


async def check_broker(brokers: Brokers, topology: Topology, management: str | None, on_check: OnCheck) -> int | None:
    """Report every finding; return the number of consumers of the requests queue, None if unknown.

    `management`: base URL of the broker's management API, if bindings and policies are to be read there.
    """
    nodes = [Node.of(url) for url in brokers.urls]
    async with AsyncExitStack() as stack:
        logins = await _log_in(stack, brokers, nodes)
        for check in _node_checks(nodes, logins):
            on_check(check)
        connected = [(node, login) for node, login in zip(nodes, logins, strict=True) if not isinstance(login, Problem)]
        for node, connection in connected:
            on_check(version(connection, str(node)))
        if not connected:
            on_check(unchecked("topology", "no login succeeded, so queues, exchanges and bindings were not compared"))
            return None
        node, connection = connected[0]
        inventory = await check_topology(connection, topology, node, on_check)
        if management is not None:
            await check_management(management, node, topology, brokers.tls, on_check)
        else:
            on_check(without_management(node))
        return inventory.consumers


async def _log_in(stack: AsyncExitStack, brokers: Brokers, nodes: Sequence[Node]) -> list[Door]:
    """The connection to each node, or the problem. A refused login is not tried at the other nodes."""
    network_problems = await asyncio.gather(
        *(find_problem(Address(node.host, node.port, URL_VARIABLE), brokers.tls) for node in nodes)
    )
    refused: dict[tuple[str | None, str], Problem] = {}
    logins: list[Door] = []
    for index, (node, problem) in enumerate(zip(nodes, network_problems, strict=True)):
        user_and_password = (node.user, node.password)
        login = problem or refused.get(user_and_password) or await entered(stack, brokers, index)
        if isinstance(login, LoginRefused):
            refused[user_and_password] = Problem(
                "login: not tried, because another node refused the same login", login.remedy
            )
        logins.append(login)
    return logins


def _node_checks(nodes: Sequence[Node], logins: Sequence[Door]) -> Iterator[Check]:
    """An unreachable node is a failure only if no node can be reached, else a warning."""
    has_connection = any(not isinstance(login, Problem) for login in logins)
    for node, login in zip(nodes, logins, strict=True):
        if not isinstance(login, Problem):
            yield ok("broker", f"login of {_login_name(node)} to vhost {node.vhost!r} succeeded", subject=str(node))
        elif has_connection:
            yield warning("broker", login.found, login.remedy, subject=str(node))
        else:
            yield failed("broker", login.found, login.remedy, subject=str(node), failure_kind=FailureKind.UNREACHABLE)


def _login_name(node: Node) -> str:
    return f"user {node.user!r}" if node.user is not None else "the owner of the certificate"


MAX_CALL_SECONDS: Final = 15.0
"""Upper limit of a call here; WORKER_DCS_TIMEOUT if that is shorter."""

Within = Callable[[float], HttpClient]
"""Makes a client with that deadline."""


async def check_dcs(loaded: Configuration, options: DoctorOptions, on_check: OnCheck) -> None:
    """Report the findings about every region, the address of IAM, and the credentials."""
    settings = loaded.settings
    ca_file = str(settings.dcs_ca_file) if settings.dcs_ca_file else None
    try:
        tls = ssl.create_default_context(cafile=ca_file)
    except OSError:
        found, remedy = f"{ca_file} holds no certificates", "correct WORKER_DCS_CA_FILE: a PEM file of authorities"
        on_check(failed("DCS", found, remedy, failure_kind=FailureKind.CONFIGURATION))
        return
    services = _services(settings, options)
    if services[0].way == "iam" and settings.iam_endpoint is not None:
        on_check(await _iam(loaded, settings.iam_endpoint, tls))
    async with _clients(loaded, tls) as within:
        found_ = await asyncio.gather(*(_region(loaded, service, within, tls) for service in services))
    for check in (check for checks in found_ for check in checks):
        on_check(check)
    if options.project is None or not options.has_credentials:
        on_check(_credentials_not_checked(options))


def _services(settings: Settings, options: DoctorOptions) -> list[Service]:
    return [
        Service(
            region=region,
            endpoint=endpoint,
            project=options.project if region == options.region else None,
            way=settings.auth_method if options.has_credentials else None,
            needs_lookup=settings.reconcile != "off",
            must_show=not settings.marker,
        )
        for region, endpoint in settings.dcs_endpoints.items()
    ]


async def _region(loaded: Configuration, service: Service, within: Within, tls: ssl.SSLContext) -> list[Check]:
    problem = await _network_problem(loaded, service.endpoint, "WORKER_DCS_ENDPOINTS", tls)
    if problem is not None:
        return [
            failed("DCS", problem.found, problem.remedy, subject=service.region, failure_kind=FailureKind.UNREACHABLE)
        ]
    credentials: Credentials | None = None
    if service.project is not None and service.way is not None:
        credentials = components.credentials(loaded, within, lambda _: None)
    checks: list[Check] = []
    deadline = min(MAX_CALL_SECONDS, loaded.settings.dcs_timeout)
    try:
        await check_service(service, within(deadline), credentials, time.time, checks.append)
    finally:
        if credentials is not None:
            await credentials.aclose()
    return checks


async def _iam(loaded: Configuration, endpoint: str, tls: ssl.SSLContext) -> Check:
    problem = await _network_problem(loaded, endpoint, "WORKER_IAM_ENDPOINT", tls)
    if problem is None:
        return ok("IAM", f"{endpoint} accepts connections")
    return failed("IAM", problem.found, problem.remedy, failure_kind=FailureKind.UNREACHABLE)


async def _network_problem(loaded: Configuration, endpoint: str, variable: str, tls: ssl.SSLContext) -> Problem | None:
    parts = urlsplit(endpoint)
    if (proxy := loaded.proxies.proxy_for(parts.scheme, parts.hostname or "")) is not None:
        # The way beyond the proxy is the proxy's: the first call shows whether it leads to the service.
        return await find_problem(
            Address.of(proxy, 443 if proxy.startswith("https:") else 80, f"{parts.scheme.upper()}_PROXY")
        )
    is_encrypted = parts.scheme == "https"
    address = Address.of(endpoint, 443 if is_encrypted else 80, variable)
    return await find_problem(address, tls if is_encrypted else None)


@asynccontextmanager
async def _clients(loaded: Configuration, tls: ssl.SSLContext) -> AsyncIterator[Within]:
    transport = ServiceTransport(tls, MAX_CALL_SECONDS, loaded.proxies.proxy_for)
    freeze_detector = FreezeDetector(
        lambda: 0.0
    )  # nothing is created here, so it does not matter whether this process was frozen

    def within(deadline: float) -> HttpClient:
        return HttpClient(transport, deadline=deadline, freeze_detector=freeze_detector)

    try:
        yield within
    finally:
        await transport.aclose()


def _credentials_not_checked(options: DoctorOptions) -> Check:
    if not options.has_credentials:
        return unchecked(CREDENTIALS, "skipped: the configuration has none")
    remedy = "dcs-worker doctor --project ID, with a project of your requests"
    return unchecked(CREDENTIALS, "not tested: that needs a project", remedy)

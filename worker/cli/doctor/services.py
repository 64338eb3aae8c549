"""Checks of `doctor` that need a service, all at the same time: broker, Redis, DCS with IAM, and the HTTP port."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from worker.bootstrap import components
from worker.claims.checks import VARIABLE as CLAIMS_URL
from worker.claims.checks import check_redis
from worker.cli.doctor.configuration import DoctorOptions, check_settings
from worker.cli.doctor.network import Address, check_port, find_problem
from worker.config import Configuration, ConfigurationError, Settings
from worker.config.platform import AGENT_URL, STS_ENDPOINT
from worker.dcs.checks import CREDENTIALS, Service, check_service
from worker.dcs.http_client import HttpClient
from worker.dcs.transport import ServiceTransport
from worker.policy.diagnostics import Check, FailureKind, OnCheck, Problem, failed, ok, unchecked, warning
from worker.policy.freeze_detector import FreezeDetector
from worker.policy.redaction import Redactor
from worker.rabbit.connection import Brokers
from worker.rabbit.tools.broker_access import LoginRefused, LoginResult, Node, broker_version, check_publishing, log_in
from worker.rabbit.tools.management import check_management, without_management
from worker.rabbit.tools.topology_diff import check_topology, count_ready

PART_TIMEOUT_SECONDS: Final = 45.0
"""For each part; the parts run at the same time."""
MAX_CALL_SECONDS: Final = 15.0
"""Upper limit of a call to DCS here; WORKER_DCS_TIMEOUT if that is shorter."""
BROKER_URL_VARIABLE: Final = "WORKER_AMQP_URL"
CONNECTION_NAME: Final = "dcs-worker doctor"
LOGIN_TIMEOUT_SECONDS: Final = 6.0

HttpClientFactory = Callable[[float], HttpClient]
"""Makes a client with that deadline in seconds."""


async def run_checks(loaded: Configuration, options: DoctorOptions) -> list[Check]:
    """All findings, in the order in which a request passes what was checked."""
    settings = loaded.settings
    consumers: int | None = None

    async def broker(on_check: OnCheck) -> None:
        nonlocal consumers
        consumers = await check_broker(settings, options.management, on_check)

    async def http_port(on_check: OnCheck) -> None:
        for check in await check_port(settings.http_host, settings.http_port):
            on_check(check)

    found = await asyncio.gather(
        _within_deadline("broker", broker),
        _within_deadline("Redis", lambda on_check: _check_redis(settings, on_check)),
        _within_deadline("DCS", lambda on_check: check_dcs(loaded, options, on_check)),
        _within_deadline("HTTP port", http_port),
    )
    settings_checks = check_settings(settings, consumers, has_credentials=options.has_credentials)
    return [*settings_checks, *(check for checks in found for check in checks)]


async def _within_deadline(name: str, part: Callable[[OnCheck], Awaitable[None]]) -> list[Check]:
    """The findings of one part; those before its timeout are kept."""
    checks: list[Check] = []
    try:
        async with asyncio.timeout(PART_TIMEOUT_SECONDS):
            await part(checks.append)
    except TimeoutError:
        checks.append(
            _unreachable(name, Problem(f"not finished within {PART_TIMEOUT_SECONDS:g} s", "repeat dcs-worker doctor"))
        )
    return checks


def _unreachable(name: str, problem: Problem, subject: str = "") -> Check:
    return failed(name, problem.found, problem.remedy, subject=subject, failure_kind=FailureKind.UNREACHABLE)


def _unusable_file(name: str, error: ConfigurationError) -> Check:
    remedy = f"correct {str(error).partition(':')[0]}"
    return failed(name, str(error), remedy, failure_kind=FailureKind.CONFIGURATION)


# Broker


async def check_broker(settings: Settings, management: str | None, on_check: OnCheck) -> int | None:
    """Report every finding; return the number of consumers of the requests queue, None if unknown.

    Logs in at every node; version, queues and exchanges are those of the first node that accepts the login.
    `management`: base URL of the broker's management API, if bindings and policies are to be read there.
    """
    try:
        brokers = components.brokers(settings)
    except ConfigurationError as error:
        on_check(_unusable_file("broker", error))
        return None
    topology, nodes = components.topology(settings), [Node.of(url) for url in brokers.urls]
    async with AsyncExitStack() as stack:
        logins = await _log_in(stack, brokers, nodes)
        for check in _node_checks(nodes, logins):
            on_check(check)
        connected = [(node, login) for node, login in zip(nodes, logins, strict=True) if not isinstance(login, Problem)]
        for node, connection in connected:
            on_check(broker_version(connection, str(node)))
        if not connected:
            on_check(unchecked("topology", "no login succeeded, so queues, exchanges and bindings were not compared"))
            return None
        node, connection = connected[0]
        consumers = await check_topology(connection, topology, node, on_check)
        on_check(await check_publishing(connection, str(node)))
        if management is not None:
            count = partial(count_ready, connection)
            await check_management(management, node, topology, brokers.tls, on_check, count)
        else:
            on_check(without_management(node))
        return consumers


async def _log_in(stack: AsyncExitStack, brokers: Brokers, nodes: Sequence[Node]) -> list[LoginResult]:
    """The connection to each node, or the problem. A refused login is not tried at the other nodes."""
    network_problems = await asyncio.gather(
        *(find_problem(Address(node.host, node.port, BROKER_URL_VARIABLE), brokers.tls) for node in nodes)
    )
    refused: dict[tuple[str | None, str], Problem] = {}
    logins: list[LoginResult] = []
    for index, (node, problem) in enumerate(zip(nodes, network_problems, strict=True)):
        user_and_password = (node.user, node.password)
        login = (
            problem
            or refused.get(user_and_password)
            or await log_in(stack, brokers, index, CONNECTION_NAME, LOGIN_TIMEOUT_SECONDS)
        )
        if isinstance(login, LoginRefused):
            refused[user_and_password] = Problem(
                "login: not tried, because another node refused the same login", login.remedy
            )
        logins.append(login)
    return logins


def _node_checks(nodes: Sequence[Node], logins: Sequence[LoginResult]) -> Iterator[Check]:
    """An unreachable node is a failure only if no node can be reached, else a warning."""
    has_connection = any(not isinstance(login, Problem) for login in logins)
    for node, login in zip(nodes, logins, strict=True):
        if not isinstance(login, Problem):
            user = f"user {node.user!r}" if node.user is not None else "the owner of the certificate"
            yield ok("broker", f"login of {user} to vhost {node.vhost!r} succeeded", subject=str(node))
        elif has_connection:
            yield warning("broker", login.found, login.remedy, subject=str(node))
        else:
            yield _unreachable("broker", login, str(node))


# Redis


async def _check_redis(settings: Settings, on_check: OnCheck) -> None:
    if settings.claims_url is None:
        on_check(unchecked("Redis", f"not configured: {CLAIMS_URL} is not set"))
        return
    url = settings.claims_url.get_secret_value()
    problem = None if settings.claims_url.scheme == "unix" else await find_problem(Address.of(url, 6379, CLAIMS_URL))
    if problem is not None:
        on_check(_unreachable("Redis", problem))
    else:
        await check_redis(url, on_check)


# DCS and IAM


async def check_dcs(loaded: Configuration, options: DoctorOptions, on_check: OnCheck) -> None:
    """Report the findings about every region, the address that gives credentials, and the credentials."""
    settings = loaded.settings
    try:
        tls = components.service_tls(settings)
        if loaded.platform.identity is None:
            components.profile(settings)
    except ConfigurationError as error:
        on_check(_unusable_file("DCS", error))
        return
    name, url, variable = _key_giver(loaded) if options.has_credentials else ("", None, "")
    if url is not None:
        problem = await _network_problem(loaded, url, variable, tls)
        on_check(ok(name, f"{url} accepts connections") if problem is None else _unreachable(name, problem))
    transport = ServiceTransport(tls, MAX_CALL_SECONDS, loaded.proxies.proxy_for)
    # Nothing is created here, so it does not matter whether this process was frozen.
    http_client = partial(HttpClient, transport, freeze_detector=FreezeDetector(lambda: 0.0), redactor=Redactor(()))
    try:
        checks_by_region = await asyncio.gather(
            *(_check_region(loaded, options, region, http_client, tls) for region in settings.dcs_endpoints)
        )
    finally:
        await transport.aclose()
    for checks in checks_by_region:
        for check in checks:
            on_check(check)
    if not options.has_credentials:
        on_check(unchecked(CREDENTIALS, "skipped: the configuration has none"))
    elif options.project is None:
        remedy = "dcs-worker doctor --project ID, with a project of your requests"
        on_check(unchecked(CREDENTIALS, "not tested: that needs a project", remedy))


def _key_giver(loaded: Configuration) -> tuple[str, str | None, str]:
    """What gives the credentials over the network: name, URL, and the variable that sets it; no URL if nothing does."""
    found, iam = loaded.platform, loaded.settings.iam_endpoint
    match loaded.settings.auth_method, found.identity:
        case ("iam", _) | ("platform", "OIDC of the old IAM"):
            return "IAM", iam, "WORKER_IAM_ENDPOINT"
        case "platform", "pod identity":
            return "pod identity agent", found.agent_url, AGENT_URL
        case "platform", "OIDC":
            return "STS", found.sts_endpoint, STS_ENDPOINT
        case _:
            return "", None, ""


async def _check_region(
    loaded: Configuration, options: DoctorOptions, region: str, http_client: HttpClientFactory, tls: ssl.SSLContext
) -> list[Check]:
    settings = loaded.settings
    client = http_client(min(MAX_CALL_SECONDS, settings.dcs_timeout))
    service = Service(
        region=region,
        endpoint=settings.dcs_endpoints[region],
        project=options.project if region == options.region else None,
        way=settings.auth_method if options.has_credentials else None,
        needs_lookup=settings.reconcile != "off",
        must_show=not settings.marker,
        error_of=client.error_of,
    )
    problem = await _network_problem(loaded, service.endpoint, "WORKER_DCS_ENDPOINTS", tls)
    if problem is not None:
        return [_unreachable("DCS", problem, service.region)]
    checks: list[Check] = []
    async with AsyncExitStack() as stack:
        credentials = None
        if service.project is not None and service.way is not None:
            credentials = components.credentials(loaded, http_client)
            stack.push_async_callback(credentials.aclose)
        await check_service(service, client, credentials, time.time, checks.append)
    return checks


async def _network_problem(loaded: Configuration, endpoint: str, variable: str, tls: ssl.SSLContext) -> Problem | None:
    parts = urlsplit(endpoint)
    if (proxy := loaded.proxies.proxy_for(parts.scheme, parts.hostname or "")) is not None:
        # The way beyond the proxy is the proxy's: the first call shows whether it leads to the service.
        port = 443 if proxy.startswith("https:") else 80
        return await find_problem(Address.of(proxy, port, f"{parts.scheme.upper()}_PROXY"))
    is_encrypted = parts.scheme == "https"
    address = Address.of(endpoint, 443 if is_encrypted else 80, variable)
    return await find_problem(address, tls if is_encrypted else None)

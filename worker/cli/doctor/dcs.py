"""Checks of DCS in every configured region, of IAM, and of the credentials."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from worker.bootstrap import components
from worker.cli.doctor.configuration import DoctorOptions
from worker.cli.doctor.network import Address, find_problem
from worker.config import Configuration, Settings
from worker.dcs.auth.auth_method import AuthMethod
from worker.dcs.checks import CREDENTIALS, Service, check_service
from worker.dcs.http_client import HttpClient
from worker.dcs.transport import ServiceTransport
from worker.policy.diagnostics import Check, FailureKind, OnCheck, Problem, failed, ok, unchecked
from worker.policy.freeze_detector import FreezeDetector

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
    credentials: AuthMethod | None = None
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

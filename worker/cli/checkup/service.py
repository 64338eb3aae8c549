"""DCS in every configured region, and the way to its credentials."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from worker.bootstrap import from_settings
from worker.cli.checkup.chosen import Chosen
from worker.cli.checkup.network import Address, hurdle
from worker.config import Loaded, Settings
from worker.dcs.auth.credentials import Credentials
from worker.dcs.checks import check_service
from worker.dcs.findings import CREDENTIALS, Service
from worker.dcs.http_client import HttpClient
from worker.dcs.transport import ServiceTransport
from worker.policy.checkup import Check, Hurdle, Tell, Trouble, failed, ok, unchecked
from worker.policy.pulse import Pulse

CALL_DEADLINE: Final = 15.0
"""Seconds at most for each call, however patient the worker itself is."""

Within = Callable[[float], HttpClient]
"""Makes a client with that deadline."""


async def check_dcs(loaded: Loaded, chosen: Chosen, tell: Tell) -> None:
    """Tell what there is to tell of every region, of the address of IAM, and of the credentials."""
    settings = loaded.settings
    ca_file = str(settings.dcs_ca_file) if settings.dcs_ca_file else None
    try:
        tls = ssl.create_default_context(cafile=ca_file)
    except OSError:
        found, remedy = f"{ca_file} holds no certificates", "correct WORKER_DCS_CA_FILE: a PEM file of authorities"
        tell(failed("DCS", found, remedy, trouble=Trouble.CONFIGURATION))
        return
    services = _services(settings, chosen)
    if services[0].way == "iam" and settings.iam_endpoint is not None:
        tell(await _iam(loaded, settings.iam_endpoint, tls))
    async with _clients(loaded, tls) as within:
        found_ = await asyncio.gather(*(_region(loaded, service, within, tls) for service in services))
    for check in (check for checks in found_ for check in checks):
        tell(check)
    if chosen.project is None or not chosen.has_credentials:
        tell(_unasked(chosen))


def _services(settings: Settings, chosen: Chosen) -> list[Service]:
    return [
        Service(
            region=region,
            endpoint=endpoint,
            project=chosen.project if region == chosen.region else None,
            way=settings.credential_way if chosen.has_credentials else None,
            must_look=settings.reconcile != "off",
            must_show=not settings.marker,
        )
        for region, endpoint in settings.dcs_endpoints.items()
    ]


async def _region(loaded: Loaded, service: Service, within: Within, tls: ssl.SSLContext) -> list[Check]:
    barred = await _barred(loaded, service.endpoint, "WORKER_DCS_ENDPOINTS", tls)
    if barred is not None:
        return [failed("DCS", barred.found, barred.remedy, subject=service.region, trouble=Trouble.UNREACHABLE)]
    credentials: Credentials | None = None
    if service.project is not None and service.way is not None:
        credentials = from_settings.credentials(loaded, within, lambda _: None)
    checks: list[Check] = []
    deadline = min(CALL_DEADLINE, loaded.settings.dcs_timeout)
    try:
        await check_service(service, within(deadline), credentials, time.time, checks.append)
    finally:
        if credentials is not None:
            await credentials.aclose()
    return checks


async def _iam(loaded: Loaded, endpoint: str, tls: ssl.SSLContext) -> Check:
    barred = await _barred(loaded, endpoint, "WORKER_IAM_ENDPOINT", tls)
    if barred is None:
        return ok("IAM", f"{endpoint} can be connected to")
    return failed("IAM", barred.found, barred.remedy, trouble=Trouble.UNREACHABLE)


async def _barred(loaded: Loaded, endpoint: str, variable: str, tls: ssl.SSLContext) -> Hurdle | None:
    parts = urlsplit(endpoint)
    if (proxy := loaded.proxies.proxy_for(parts.scheme, parts.hostname or "")) is not None:
        # The way beyond the proxy is the proxy's: the first call shows whether it leads to the service.
        return await hurdle(
            Address.of(proxy, 443 if proxy.startswith("https:") else 80, f"{parts.scheme.upper()}_PROXY")
        )
    is_encrypted = parts.scheme == "https"
    address = Address.of(endpoint, 443 if is_encrypted else 80, variable)
    return await hurdle(address, tls if is_encrypted else None)


@asynccontextmanager
async def _clients(loaded: Loaded, tls: ssl.SSLContext) -> AsyncIterator[Within]:
    transport = ServiceTransport(tls, CALL_DEADLINE, loaded.proxies.proxy_for)
    pulse = Pulse(lambda: 0.0)  # nothing is created here, so it does not matter whether this process was frozen

    def within(deadline: float) -> HttpClient:
        return HttpClient(transport, deadline=deadline, pulse=pulse)

    try:
        yield within
    finally:
        await transport.aclose()


def _unasked(chosen: Chosen) -> Check:
    if not chosen.has_credentials:
        return unchecked(CREDENTIALS, "there are none to ask with; see configuration")
    remedy = "dcs-worker doctor --project ID, with a project that requests come for"
    return unchecked(
        CREDENTIALS, "they and their rights are known to hold only in a project, and none was named", remedy
    )

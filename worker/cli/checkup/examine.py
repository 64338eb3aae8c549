"""All checks at once, each part within its deadline; what was found before a deadline is kept."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from worker.bootstrap import from_settings
from worker.claims.checks import VARIABLE as CLAIMS_URL
from worker.claims.checks import check_redis
from worker.cli.checkup import configuration
from worker.cli.checkup.broker import check_broker
from worker.cli.checkup.chosen import Chosen
from worker.cli.checkup.network import Address, hurdle
from worker.cli.checkup.port import check_port
from worker.cli.checkup.service import check_dcs
from worker.config import ConfigurationError, Loaded, Settings
from worker.policy.checkup import Check, Tell, Trouble, failed, unchecked

DEADLINE: Final = 45.0
"""Seconds for each part; they run side by side."""


async def examine(loaded: Loaded, chosen: Chosen) -> list[Check]:
    """Everything that can be found out, in the order in which a request meets it."""
    settings = loaded.settings
    consumers: list[int | None] = [None]

    async def broker(tell: Tell) -> None:
        consumers[0] = await _broker(settings, chosen.management, tell)

    parts: tuple[tuple[str, Callable[[Tell], Awaitable[None]]], ...] = (
        ("broker", broker),
        ("Redis", lambda tell: _redis(settings, tell)),
        ("DCS", lambda tell: check_dcs(loaded, chosen, tell)),
        ("HTTP port", lambda tell: _port(settings, tell)),
    )
    found = await asyncio.gather(*(_within_deadline(name, part) for name, part in parts))
    advice = configuration.advice(settings, consumers[0], has_credentials=chosen.has_credentials)
    return [*advice, *(check for checks in found for check in checks)]


async def _within_deadline(name: str, part: Callable[[Tell], Awaitable[None]]) -> list[Check]:
    checks: list[Check] = []
    try:
        async with asyncio.timeout(DEADLINE):
            await part(checks.append)
    except TimeoutError:
        found = f"the checks were not done after {DEADLINE:g} s"
        checks.append(failed(name, found, "dcs-worker doctor, once more", trouble=Trouble.UNREACHABLE))
    return checks


async def _broker(settings: Settings, management: str | None, tell: Tell) -> int | None:
    try:
        brokers = from_settings.brokers(settings)
    except (ConfigurationError, OSError):  # OSError is what ssl.SSLError is
        remedy = (
            "correct WORKER_AMQP_CA_FILE, WORKER_AMQP_CERT_FILE and WORKER_AMQP_KEY_FILE: PEM, key without password"
        )
        found = "the files for TLS hold no authorities, or no certificate with its key"
        tell(failed("broker", found, remedy, trouble=Trouble.CONFIGURATION))
        return None
    return await check_broker(brokers, from_settings.topology(settings), management, tell)


async def _redis(settings: Settings, tell: Tell) -> None:
    if settings.claims_url is None:
        tell(unchecked("Redis", f"{CLAIMS_URL} is not set"))
        return
    url = settings.claims_url.get_secret_value()
    barred = None if settings.claims_url.scheme == "unix" else await hurdle(Address.of(url, 6379, CLAIMS_URL))
    if barred is not None:
        tell(failed("Redis", barred.found, barred.remedy, trouble=Trouble.UNREACHABLE))
        return
    await check_redis(url, tell)


async def _port(settings: Settings, tell: Tell) -> None:
    tell(await check_port(settings.http_host, settings.http_port))

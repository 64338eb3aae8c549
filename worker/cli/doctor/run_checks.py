"""All checks of `doctor` at the same time, each part with a timeout; findings before a timeout are kept."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from worker.bootstrap import components
from worker.claims.checks import VARIABLE as CLAIMS_URL
from worker.claims.checks import check_redis
from worker.cli.doctor.broker import check_broker
from worker.cli.doctor.configuration import DoctorOptions, check_settings
from worker.cli.doctor.dcs import check_dcs
from worker.cli.doctor.http_port import check_port
from worker.cli.doctor.network import Address, find_problem
from worker.config import Configuration, ConfigurationError, Settings
from worker.policy.diagnostics import Check, FailureKind, OnCheck, failed, unchecked

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

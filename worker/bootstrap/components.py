"""Parts of a worker, each built from the settings."""

import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker import __version__
from worker.config import Configuration, ConfigurationError, Settings
from worker.dcs.auth.auth_method import AuthMethod
from worker.dcs.auth.iam_login import Account
from worker.dcs.auth.methods import auth_method
from worker.dcs.auth.platform_keys import Profile
from worker.dcs.auth.workload_identity import Federation, Identity, OidcAgency, PodIdentity
from worker.dcs.client import DcsClient
from worker.dcs.http_client import HttpClient
from worker.dcs.transport import ServiceTransport
from worker.observe.observer import WorkerObserver
from worker.pipeline.ports import Publisher
from worker.policy.follow_up import FollowUpSettings
from worker.policy.freeze_detector import FreezeDetector
from worker.policy.migration_request import RequestParser
from worker.policy.redaction import Redactor
from worker.policy.retry_policy import RetryPolicy, ThrottleSettings
from worker.rabbit.connection import Brokers
from worker.rabbit.publisher import RabbitPublisher
from worker.rabbit.topology import Topology, describe

boot_time: Final = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
"""Seconds of a clock that continues while the machine sleeps."""

LEASE_PER_CALL: Final = 1.5
"""Least lease of a claim, in deadlines of a call, for a replica that pauses while Redis is away."""

if TYPE_CHECKING:
    from worker.claims.redis_claims import RedisClaims
    from worker.observe.tracing import Tracing


def topology(settings: Settings) -> Topology:
    """Exchanges and queues that the settings ask for."""
    exchanges, with_follow_up = (settings.request_exchange, settings.event_exchange), settings.follow_up
    return describe(settings.queue, *exchanges, settings.retry_delays, with_follow_up=with_follow_up)


def brokers(settings: Settings) -> Brokers:
    """The broker's nodes, with TLS for `amqps:`."""
    urls = tuple(url.get_secret_value() for url in settings.amqp_url)
    if not urls[0].startswith("amqps:"):
        return Brokers(urls)
    tls = authorities(settings.amqp_ca_file, "WORKER_AMQP_CA_FILE")
    if settings.amqp_cert_file is not None and settings.amqp_key_file is not None:
        # What is wrong with a pair is not said by its error: certificates without a key can be loaded as authorities.
        authorities(settings.amqp_cert_file, "WORKER_AMQP_CERT_FILE")
        try:
            tls.load_cert_chain(settings.amqp_cert_file, settings.amqp_key_file, password=_no_pass_phrase)
        except OSError as error:
            is_other = isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH"
            problem = "is not the key of WORKER_AMQP_CERT_FILE" if is_other else "holds no private key in PEM"
            raise ConfigurationError((f"WORKER_AMQP_KEY_FILE: {problem}",)) from None
    return Brokers(urls, tls)


def authorities(path: Path | None, name: str) -> ssl.SSLContext:
    """TLS that trusts the certificates in a file, else the system's. Raises ConfigurationError."""
    try:
        return ssl.create_default_context(cafile=path)
    except OSError:  # SSLError is one
        raise ConfigurationError((f"{name}: holds no certificates in PEM",)) from None


def _no_pass_phrase() -> str:
    """Called for an encrypted key; without it OpenSSL would ask on the terminal."""
    remedy = "write it without one: openssl pkey -in KEY -out NEW"
    raise ConfigurationError((f"WORKER_AMQP_KEY_FILE: is encrypted with a pass phrase; {remedy}",))


def retry_policy(settings: Settings) -> RetryPolicy:
    """The settings of the retry policy."""
    return RetryPolicy(
        delays=settings.retry_delays,
        tries=settings.tries,
        reconcile=settings.reconcile,
        claims_away=settings.claims_away,
        settle=settings.settle,
        delivery_limit=settings.delivery_limit,
        lookup_timeout=settings.dcs_timeout,
    )


def request_parser(settings: Settings) -> RequestParser:
    """The parser of message bodies."""
    return RequestParser(settings.max_message_bytes, settings.dcs_endpoints, settings.dcs_region, settings.marker)


def follow_up(settings: Settings) -> FollowUpSettings:
    """The settings of the follow-up."""
    return FollowUpSettings(
        regions=tuple(settings.dcs_endpoints),
        timeout=settings.follow_up_timeout,
        listing_delay=settings.settle,
        list_timeout=settings.dcs_timeout,
    )


def throttle(settings: Settings) -> ThrottleSettings:
    """The settings of the throttle."""
    return ThrottleSettings(
        regions=tuple(settings.dcs_endpoints),
        prefetch=settings.prefetch,
        deadline=settings.dcs_timeout,
        delays=settings.retry_delays,
        rate=settings.dcs_rate,
    )


def credentials(loaded: Configuration, http_client: Callable[[float], HttpClient]) -> AuthMethod:
    """How calls authenticate. Raises ConfigurationError if they cannot."""
    settings = loaded.settings
    # With `iam` all three are set: nothing starts without them.
    account = Account(settings.iam_endpoint or "", settings.iam_user or "", settings.iam_domain or "")
    return auth_method(
        settings.auth_method,
        loaded.secrets.current,
        http_client,
        account=account,
        platform=platform_identity(loaded) or profile(settings),
    )


def platform_identity(loaded: Configuration) -> Identity | None:
    """The identity that the platform gives this workload. Nothing starts without all of its variables."""
    found = loaded.platform
    match found.identity:
        case None:
            return None
        case "pod identity":
            assert found.agent_url is not None
            assert found.agent_token_file is not None
            return PodIdentity(found.agent_url, found.agent_token_file)
        case "OIDC":
            return OidcAgency(
                found.sts_endpoint or "",
                found.provider_urn or "",
                found.agency_urn or "",
                found.id_token.get_secret_value() if found.id_token else found.oidc_token_file or "",
                found.session_name,
                found.duration_seconds,
                {name: getattr(found, name) for name in ("policy", "policy_ids") if getattr(found, name)},
            )
        case "OIDC of the old IAM":
            assert found.id_token_file is not None
            return Federation(loaded.settings.iam_endpoint or "", found.idp_id or "", found.id_token_file)


def profile(settings: Settings) -> Profile | None:
    """The profile file if there is one. Raises ConfigurationError if it brings no keys."""
    if settings.credentials_file is None:
        return None
    try:
        return Profile(settings.credentials_file, settings.iam_endpoint or "")
    except ValueError as error:
        raise ConfigurationError((f"HUAWEICLOUD_SDK_CREDENTIALS_FILE: {error}",)) from None


def tracing(settings: Settings) -> "Tracing | None":
    """Tracing if it is on. Raises ConfigurationError when it cannot be."""
    if settings.collector is None:
        return None
    try:
        from worker.observe.tracing import start_tracing  # noqa: PLC0415 - costs nothing while it is off
    except ModuleNotFoundError:
        missing = "tracing needs packages that are not installed: pip install 'dcs-migration-worker[tracing]'"
        raise ConfigurationError((f"OTEL_EXPORTER_OTLP_ENDPOINT: {missing}",)) from None
    try:
        return start_tracing(settings.collector, settings.queue, __version__)
    except ValueError as error:
        raise ConfigurationError((f"OTEL_…: OpenTelemetry refuses its settings: {error}",)) from None


def traced(publisher: RabbitPublisher, tracing: "Tracing | None", settings: Settings) -> Publisher:
    """The publisher; its publishes are traced if tracing is on."""
    if tracing is None:
        return publisher
    from worker.observe.tracing import TracedPublisher  # noqa: PLC0415 - as above

    retry_queues = topology(settings).retry_queues
    return TracedPublisher(publisher, tracing, settings.queue, settings.event_exchange, retry_queues)


def claims(
    loaded: Configuration, observer: WorkerObserver, on_available: Callable[[bool], None]
) -> "RedisClaims | None":
    """Claims in Redis if they are configured, not started yet. `on_available`: Redis is back, or away."""
    settings = loaded.settings
    if settings.claims_url is None:
        return None
    from worker.claims import redis_claims  # noqa: PLC0415 - as above, and what redis-py brings along

    # A replica that is cut off ends its calls before another one can take a claim of it over: it was renewed at most a
    # third of its lease before, and the other one waits for the listing delay then.
    pauses = settings.claims_away == "pause"
    lease = max(redis_claims.LEASE_SECONDS, LEASE_PER_CALL * settings.dcs_timeout if pauses else 0.0)
    try:
        return redis_claims.RedisClaims(
            partial(_claims_url, loaded),
            observer,
            lease=lease,
            late_reports=settings.prefetch if pauses else 0,
            call_seconds=settings.dcs_timeout if pauses else None,
            on_available=on_available,
            clock=boot_time,
        )
    except ValueError as error:
        raise ConfigurationError((f"WORKER_CLAIMS_URL: {error}",)) from None


def _claims_url(loaded: Configuration) -> str:
    url = loaded.current.claims_url
    return url.get_secret_value() if url is not None else ""


def service_transport(loaded: Configuration) -> ServiceTransport:
    """Transport to DCS and IAM. Raises ConfigurationError if the certificates cannot be read."""
    settings = loaded.settings
    return ServiceTransport(service_tls(settings), settings.dcs_timeout, loaded.proxies.proxy_for)


def service_tls(settings: Settings) -> ssl.SSLContext:
    """TLS to DCS and IAM. Raises ConfigurationError if the certificates cannot be read."""
    return authorities(settings.dcs_ca_file, "WORKER_DCS_CA_FILE")


def lookup_client(stack: AsyncExitStack, loaded: Configuration) -> DcsClient:
    """A client for look-ups by commands, with the worker's credentials, closed with `stack`."""
    transport = service_transport(loaded)
    stack.push_async_callback(transport.aclose)
    # Look-ups are harmless, so it does not matter whether this process was frozen.
    http_client = partial(HttpClient, transport, freeze_detector=FreezeDetector(lambda: 0.0), redactor=Redactor(()))
    credential = credentials(loaded, http_client)
    stack.push_async_callback(credential.aclose)
    return DcsClient(http_client(loaded.settings.dcs_timeout), credential, loaded.settings.dcs_endpoints)

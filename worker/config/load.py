"""Loading of the configuration: reads all sources once, checks all settings and relations, reports all problems."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

from pydantic import SecretStr

from worker.config import regions
from worker.config.platform import USES_IAM, PlatformVariables, read_platform, unused_identities
from worker.config.secrets import URL_FIELDS, RotatingSecrets
from worker.config.settings import (
    AUTH_METHOD_FIELDS,
    PROXY_FIELDS,
    SDK_VARIABLES,
    AuthMethodName,
    ConfigurationError,
    Settings,
    variable,
)
from worker.config.sources import FoundValue, SettingsSources, read_dotenv_file
from worker.config.urls import Proxies
from worker.config.values import number_text

_OPTIONAL_FIELDS = ("security_token", "credentials", "credentials_file")
"""Of the ways to authenticate."""
_NO_CREDENTIALS = (
    "credentials: none for DCS are configured; set exactly one of WORKER_AUTH_TOKEN; WORKER_ACCESS_KEY and "
    "WORKER_SECRET_KEY (or HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK), with WORKER_SECURITY_TOKEN (or "
    "HUAWEICLOUD_SDK_SECURITY_TOKEN) if they are temporary; WORKER_IAM_USER, WORKER_IAM_PASSWORD and "
    "WORKER_IAM_DOMAIN, with WORKER_IAM_ENDPOINT if it is not Huawei Cloud's own; WORKER_CREDENTIALS=platform"
)
MAX_PAUSE_TIMEOUT_SECONDS = 40.0
"""Longest call of a replica that pauses while Redis is away: no claim holds for longer than 60 s."""
_KNOWN_VARIABLES = tuple(name for name in map(variable, Settings.model_fields) if name.startswith("WORKER_"))


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings, warnings about them for an operator, and the values that rotate: secrets of DCS, and each URL.

    `sources`: where each value comes from that is set, by variable.
    """

    settings: Settings
    warnings: tuple[str, ...]
    secrets: RotatingSecrets[SecretStr]
    urls: tuple[RotatingSecrets[Any], ...]
    platform: PlatformVariables
    sources: Mapping[str, str]

    @property
    def current(self) -> Settings:
        """The settings with the URLs of broker, Redis and proxies as their secret files have them now."""
        return self.settings.model_copy(update={name: url for it in self.urls for name, url in it.current().items()})

    @property
    def proxies(self) -> Proxies:
        """The proxies of now."""
        now = self.current
        return Proxies(
            {"http": now.http_proxy or now.all_proxy, "https": now.https_proxy or now.all_proxy}, now.no_proxy
        )


def load(
    environ: Mapping[str, str], *, folder: Path = Path(), credentials: bool = True, proxies: bool = False
) -> Configuration:
    """Read all settings from the environment, the secret files and `folder/.env`, in this order of precedence.

    `credentials` says whether DCS credentials are needed: commands that only use the broker need none, and proxies need
    be valid only if `proxies` says so. Raises ConfigurationError with every problem.
    """
    dotenv, problems = read_dotenv_file(folder / ".env")
    sources = SettingsSources(environ, dotenv)
    settings, found, invalid = sources.read(), sources.found, sources.invalid
    ignored = _ignored_proxies(settings, found) if credentials or proxies else PROXY_FIELDS
    problems += [
        f"{found[name].variable}: {invalid[name]}" for name in found if name in invalid and name not in ignored
    ]
    problems += _relation_problems(settings, invalid)
    if credentials:
        problems += _credential_problems(found)
    is_chosen = _chosen_auth_methods(found) == ["platform"]
    platform, platform_problems = read_platform(sources, is_chosen=is_chosen, region=settings.dcs_region)
    if credentials:
        needs_iam = platform.identity == USES_IAM or _chosen_auth_methods(found) == ["iam"]
        problems += _iam_endpoint_problems(settings, found, invalid) if needs_iam else []
        problems += platform_problems
    unused = unused_identities(sources, platform.identity, is_chosen=is_chosen)
    warnings = (*_unknown_warnings(sources), *_ignored_warnings(sources), *unused)
    if problems:
        raise ConfigurationError(tuple(problems), warnings, settings.log_format)
    settings = _fill_in_addresses(settings, found)
    origins = MappingProxyType({variable(field): sources.origin(field) for field in found})
    secrets = RotatingSecrets[SecretStr](settings, found)
    urls = tuple(RotatingSecrets[Any](settings, found, fields=(name,)) for name in URL_FIELDS)
    return Configuration(settings, warnings, secrets, urls, platform, origins)


def load_from_process(*, credentials: bool = True, proxies: bool = False, amqp_url: str = "") -> Configuration:
    """Read the settings of this process, the only place where that is done; `amqp_url` names another broker."""
    given = {variable("amqp_url"): amqp_url} if amqp_url else {}
    return load({**os.environ, **given}, credentials=credentials, proxies=proxies)


def wants_colours(stream: TextIO) -> bool:
    """Whether output to `stream` is coloured: on a terminal that can, unless NO_COLOR is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _relation_problems(settings: Settings, invalid: Collection[str]) -> Iterator[str]:
    """Yield one line per broken relation between settings; a relation with an `invalid` field is not checked."""

    def are_valid(*fields: str) -> bool:
        return not set(fields) & set(invalid)

    if are_valid("settle", "dcs_timeout") and settings.settle <= settings.dcs_timeout:
        limit = f"WORKER_DCS_TIMEOUT ({number_text(settings.dcs_timeout)})"
        yield f"WORKER_SETTLE: must be greater than {limit}, not {number_text(settings.settle)}"
    longest = max(settings.retry_delays)
    if are_valid("retry_delays", "settle") and longest < settings.settle:
        limit = f"WORKER_SETTLE ({number_text(settings.settle)})"
        yield f"WORKER_RETRY_DELAYS: the longest delay must be at least {limit}, not {number_text(longest)}"
    if are_valid("request_exchange", "event_exchange") and settings.request_exchange == settings.event_exchange:
        yield "WORKER_EVENT_EXCHANGE: must differ from WORKER_REQUEST_EXCHANGE, which is of another kind"
    for fields, problems_of in _RELATIONS.items():
        if are_valid(*fields):
            yield from problems_of(settings)


def _ignored_proxies(settings: Settings, found: Collection[str]) -> Collection[str]:
    """The proxies that no call uses, and that need not be valid."""
    if "*" in settings.no_proxy:
        return PROXY_FIELDS
    return ("all_proxy",) if {"http_proxy", "https_proxy"} <= set(found) else ()


def _credential_problems(found: Mapping[str, FoundValue]) -> list[str]:
    """Return the problems of authentication: exactly one complete way must be set. An invalid value counts as set."""
    methods = _chosen_auth_methods(found)
    if not methods:
        return [_NO_CREDENTIALS]
    if len(methods) > 1:
        *names, last = [
            found[field].variable for method in methods for field in AUTH_METHOD_FIELDS[method] if field in found
        ]
        listed = f"{', '.join(names)} and {last}"
        return [f"credentials: exactly one way to authenticate must be configured, but {listed} are set"]
    fields = AUTH_METHOD_FIELDS[methods[0]]
    missing = [_variable_name(field, found) for field in fields if field not in (*found, *_OPTIONAL_FIELDS)]
    present = next(found[field].variable for field in (*fields, "iam_endpoint") if field in found)
    return [f"{name}: is missing, {present} needs it" for name in missing]


def _iam_endpoint_problems(settings: Settings, found: Mapping[str, FoundValue], invalid: Collection[str]) -> list[str]:
    """Return one line when the address of IAM is neither set nor follows from the region."""
    if "iam_endpoint" in found or "dcs_region" in invalid or regions.iam_endpoint(settings.dcs_region) is not None:
        return []
    return [f"WORKER_IAM_ENDPOINT: is missing, the address of IAM for {settings.dcs_region!r} is not known"]


def _chosen_auth_methods(found: Mapping[str, FoundValue]) -> list[AuthMethodName]:
    """Return the ways to authenticate that are configured; an address of IAM alone means passwords."""
    methods = [method for method, fields in AUTH_METHOD_FIELDS.items() if any(field in found for field in fields)]
    return methods or (["iam"] if "iam_endpoint" in found else [])


def _fill_in_addresses(settings: Settings, found: Mapping[str, FoundValue]) -> Settings:
    """Fill in the addresses that follow from the default region, and freeze the map of endpoints."""
    region = settings.dcs_region
    endpoints = dict(settings.dcs_endpoints)
    if not endpoints and (known := regions.dcs_endpoint(region)) is not None:
        endpoints[region] = known
    filled: dict[str, object] = {"dcs_endpoints": MappingProxyType(endpoints)}
    if settings.iam_endpoint is None and {"iam", "platform"} & set(_chosen_auth_methods(found)):
        filled["iam_endpoint"] = regions.iam_endpoint(region)
    return settings.model_copy(update=filled)


def _pause_problems(settings: Settings) -> Iterator[str]:
    pauses = settings.claims_away == "pause"
    if pauses and settings.claims_url is None:
        yield "WORKER_CLAIMS_AWAY: pause is of use only when WORKER_CLAIMS_URL is set"
    if pauses and settings.dcs_timeout > MAX_PAUSE_TIMEOUT_SECONDS:
        limit = f"{number_text(MAX_PAUSE_TIMEOUT_SECONDS)} with WORKER_CLAIMS_AWAY=pause"
        yield f"WORKER_DCS_TIMEOUT: must be at most {limit}, not {number_text(settings.dcs_timeout)}"


def _certificate_problems(settings: Settings) -> Iterator[str]:
    if (settings.amqp_cert_file is None) != (settings.amqp_key_file is None):
        missing, present = ("CERT", "KEY") if settings.amqp_cert_file is None else ("KEY", "CERT")
        yield f"WORKER_AMQP_{missing}_FILE: is missing, WORKER_AMQP_{present}_FILE needs it"


def _encryption_problems(settings: Settings) -> Iterator[str]:
    files = [name for name in ("amqp_ca_file", "amqp_cert_file", "amqp_key_file") if getattr(settings, name)]
    if files and settings.amqp_url[0].scheme != "amqps":
        yield f"{variable(files[0])}: is of use only when WORKER_AMQP_URL begins with amqps://"


def _region_problems(settings: Settings) -> Iterator[str]:
    region, configured = settings.dcs_region, settings.dcs_endpoints
    if configured and region not in configured:
        yield f"WORKER_DCS_REGION: must be one of the regions in WORKER_DCS_ENDPOINTS, not {region!r}"
    if not configured and regions.dcs_endpoint(region) is None:
        yield f"WORKER_DCS_REGION: the address of {region!r} is not known, set WORKER_DCS_ENDPOINTS"


def _tracing_problems(settings: Settings) -> Iterator[str]:
    field = "otlp_protocol" if settings.otlp_traces_protocol is None else "otlp_traces_protocol"
    protocol, exporter = getattr(settings, field), settings.traces_exporter
    if settings.collector is not None and protocol not in (None, "http/protobuf"):
        port = "the collector takes it on another port, mostly 4318"
        yield f"{variable(field)}: must be http/protobuf, not {protocol!r}; {port}"
    if settings.collector is not None and exporter not in (None, "otlp"):
        yield f"{variable('traces_exporter')}: must be otlp or none, not {exporter!r}"


_RELATIONS: Mapping[tuple[str, ...], Callable[[Settings], Iterator[str]]] = {
    ("claims_away", "claims_url", "dcs_timeout"): _pause_problems,
    ("amqp_cert_file", "amqp_key_file"): _certificate_problems,
    ("amqp_url", "amqp_ca_file", "amqp_cert_file", "amqp_key_file"): _encryption_problems,
    ("dcs_region", "dcs_endpoints"): _region_problems,
    ("otlp_protocol", "otlp_traces_protocol", "traces_exporter"): _tracing_problems,
}
"""What settings must have to do with each other, by their fields."""


def _variable_name(field: str, found: Mapping[str, FoundValue]) -> str:
    """Name a missing key in the style of the keys that are set."""
    from_sdk = any(value.variable in SDK_VARIABLES.values() for value in found.values())
    return SDK_VARIABLES[field] if from_sdk and field in SDK_VARIABLES else variable(field)


def _unknown_warnings(sources: SettingsSources) -> Iterator[str]:
    """Yield one line for each unknown `WORKER_*` variable in any source: most likely a typing error."""
    try:
        files = os.listdir(sources.folder)
    except (OSError, ValueError):  # no such folder, or a name that no folder can have
        files = []
    places: tuple[tuple[str, Iterable[str], Callable[[str], str]], ...] = (
        ("environment", sources.environ, str.upper),
        ("folder of secret files", files, str.lower),
        (".env file", sources.dotenv, str.upper),
    )
    for place, found, spelling in places:
        for name in sorted(found):
            if name.upper().startswith("WORKER_") and name not in map(spelling, _KNOWN_VARIABLES):
                nearest = spelling(get_close_matches(name.upper(), _KNOWN_VARIABLES, n=1, cutoff=0.0)[0])
                shown = name.encode("unicode_escape").decode()
                yield f"{shown}: is not known and ignored (in the {place}); the nearest known is {nearest}"


def _ignored_warnings(sources: SettingsSources) -> Iterator[str]:
    """Yield one line for each variable of the SDK that is ignored because ours are set."""
    ours = [sources.found[field].variable for field in SDK_VARIABLES if field in sources.found]
    for name in SDK_VARIABLES.values():
        if name not in ours and ours and sources.find(name):
            yield f"{name}: is ignored, {ours[0]} is set"

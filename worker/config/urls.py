"""Addresses: validators of URLs (broker, DCS and IAM, Redis, proxy, trace collector), proxies.

An invalid URL is never repeated in an error: it is unknown which part of it is a password.
"""

import ipaddress
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import Secret

from schemas.request import REGION_PATTERN

REGION_NAME = re.compile(REGION_PATTERN)
"""Requests name it by the same rule."""
REGION_RULE = "the name of a region like cn-north-4, in lower case letters, digits and -"
_BROKER_PARAMETERS = {
    "heartbeat": ("1 to 60 seconds", "[1-9]|[1-5][0-9]|60"),
    "connection_timeout": ("100 to 99999 milliseconds", "[1-9][0-9]{2,4}"),
    "auth": ("external", "external"),
}
"""Parameters of a broker's URL, each with its rule. Without a heartbeat a dead broker would never be noticed."""
_FORBIDDEN_CHARACTERS = re.compile(r"[^\x21-\x7e]|\\")
_HOST_NAME = re.compile(r"[0-9A-Za-z_]([0-9A-Za-z._-]{0,252})")


class SecretUrl(Secret[str]):
    """A URL that may hold a password: printed and serialized without it; `get_secret_value()` returns it whole."""

    @property
    def scheme(self) -> str:
        """The scheme in lower case."""
        return urlsplit(self.get_secret_value()).scheme

    @property
    def passwords(self) -> Iterator[str]:
        """The passwords in it, as they are written there and decoded.

        One that equals the user name (guest:guest) is no secret, and the user name is needed in messages.
        """
        parts = urlsplit(self.get_secret_value())
        if parts.password and parts.password != parts.username:
            yield from {parts.password, unquote(parts.password)}
        yield from (value for name, value in parse_qsl(parts.query) if name.endswith("password"))

    def _display(self) -> str:
        parts = urlsplit(self.get_secret_value())
        login, at, address = parts.netloc.rpartition("@")
        user, colon, _ = login.partition(":")
        # A login without a colon may be a password in the wrong place.
        masked = f"{user}:***" if colon else "***"
        query = "?***" if parts.query else ""
        path = parts.path if parts.path != "/" else ""  # some clients take the slash for a vhost without a name
        return f"{parts.scheme}://{masked if at else ''}{at}{address}{path}{query}"


def broker_urls(text: str) -> tuple[SecretUrl, ...]:
    """Read the addresses of one cluster's nodes, separated by commas: `amqp://user:password@host:port/vhost`.

    As in the AMQP URI specification, but an empty path means the virtual host `/`, as in the Python clients, and as
    `//` and `/%2F` do. Of RabbitMQ's parameters `heartbeat` and `connection_timeout` are read, and `auth=external`
    logs in by the client's certificate (SASL EXTERNAL). Either all addresses are encrypted or none is.
    """
    items = [item.strip() for item in text.split(",")]
    urls = tuple(
        _broker_url(item, f"address {number} " if len(items) > 1 else "") for number, item in enumerate(items, 1)
    )
    if len({url.scheme for url in urls}) > 1:
        raise ValueError("must not mix amqp:// and amqps://")
    return urls


def endpoints(text: str) -> dict[str, str]:
    """Read a JSON object of regions and base URLs."""
    try:
        pairs = json.loads(text, object_pairs_hook=tuple)  # keeps repeated names; nothing else becomes a tuple
    except (ValueError, RecursionError) as error:
        reason = f" ({error.msg} at character {error.pos + 1})" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"must be a JSON object of region and base URL{reason}") from None
    if not isinstance(pairs, tuple):
        raise ValueError("must be a JSON object of region and base URL")
    found: dict[str, str] = {}
    for at, (region, url) in enumerate(pairs, 1):
        if not REGION_NAME.fullmatch(region):
            raise ValueError(f"entry {at} must begin with {REGION_RULE}")
        if region in found:
            raise ValueError(f"has the region {region} twice")
        found[region] = service_url(url if isinstance(url, str) else "", f"the URL of {region} ")
    return found


def claims_url(text: str) -> SecretUrl:
    """Read the address of the Redis server for claims."""
    parts = _parse_url(text, ("redis", "rediss", "unix"), may_have_query=True)
    if parts.scheme == "unix" and len(parts.path) < 2:
        raise ValueError("must have a path, like unix:///run/redis.sock")
    # The Redis library takes database 0 for what it cannot read.
    path = "" if parts.scheme == "unix" else parts.path
    named = [value for name, value in parse_qsl(parts.query, keep_blank_values=True) if name == "db"]
    if not (re.fullmatch("/?|/[0-9]+/?", path) and all(map(str.isdecimal, named))):
        raise ValueError("must have nothing or the number of a database behind the host, like redis://HOST:6379/0")
    return SecretUrl(_with_plain_scheme(text))


def proxy_url(text: str) -> SecretUrl:
    """Read the address of a proxy, with or without a scheme: `http://user:password@host:port`."""
    url = text if "://" in text else f"http://{text}"
    if url.lower().startswith("socks"):
        raise ValueError("SOCKS proxies are not supported; name an http:// or https:// proxy")
    _parse_url(url, ("http", "https"))
    return SecretUrl(_with_plain_scheme(url))


def collector_url(text: str) -> str:
    """Read the address of the trace collector. Its credentials are in OTEL_EXPORTER_OTLP_HEADERS."""
    _parse_url(text, ("http", "https"), login_rule=": OTEL_EXPORTER_OTLP_HEADERS is for them", may_have_query=True)
    return text


def agent_url(text: str) -> str:
    """Read the address of the pod identity agent, https except on this machine and its link, as the platform's is."""
    parts = _parse_url(text, ("https", "http"), login_rule="", may_have_query=True)
    address = ip_address(parts.hostname or "")
    if not (address is not None and address.is_link_local):
        _check_encryption(parts, "loopback and link-local")
    return text


def _broker_url(text: str, prefix: str) -> SecretUrl:
    url, question, query = text.partition("?")
    for parameter in query.split("&") if question else ():
        name, _, value = parameter.partition("=")
        if name not in _BROKER_PARAMETERS:
            known = ", ".join(_BROKER_PARAMETERS)
            raise ValueError(f"{prefix}must have no ? but before {known} (within a password it is written %3F)")
        rule, syntax = _BROKER_PARAMETERS[name]
        if not re.fullmatch(syntax, value):
            raise ValueError(f"{prefix}must have {rule} as {name}")
    parts = _parse_url(url, ("amqp", "amqps"), prefix)
    # The AMQP library would enter another one.
    if "%252F" in parts.path or parts.path in ("/.", "/.."):
        raise ValueError(f"{prefix}must not have a virtual host called . or .. or with %2F in its name")
    if parts.path != "//" and "/" in parts.path[1:]:
        raise ValueError(f"{prefix}must have one virtual host; a slash within its name is written %2F")
    return SecretUrl(_with_plain_scheme(text))


def service_url(text: str, prefix: str = "") -> str:
    """Read the base URL of a service, https except on loopback; returned without a slash at the end."""
    parts = _parse_url(text, ("https", "http"), prefix, login_rule="")
    _check_encryption(parts, "this machine's own", prefix)
    return _with_plain_scheme(text).rstrip("/")


def _check_encryption(parts: SplitResult, exempt: str, prefix: str = "") -> None:
    """Loopback addresses may be called without TLS; `exempt` says in the error which addresses may."""
    host = parts.hostname or ""
    address = ip_address(host)
    is_loopback = host == "localhost" or (address is not None and address.is_loopback)
    if parts.scheme == "http" and not is_loopback:
        raise ValueError(f"{prefix}must begin with https:// (http:// is for {exempt} addresses)")


def _with_plain_scheme(text: str) -> str:
    """Write the scheme in lower case, so that it can be compared."""
    scheme, rest = text.split(":", 1)
    return f"{scheme.lower()}:{rest}"


def _parse_url(
    text: str,
    schemes: Collection[str],
    prefix: str = "",
    *,
    login_rule: str | None = None,
    may_have_query: bool = False,
) -> SplitResult:
    """Split a URL, or raise ValueError with the rule that it breaks.

    `login_rule`, if given, ends the sentence by which a user and password are forbidden.
    """
    allowed_schemes = " or ".join(f"{scheme}://" for scheme in schemes)
    if not text.lower().startswith(tuple(f"{scheme}://" for scheme in schemes)):
        hint = " (a comma within a password is written %2C)" if prefix.startswith("address") else ""
        raise ValueError(f"{prefix}must begin with {allowed_schemes}{hint}")
    if _FORBIDDEN_CHARACTERS.search(text):
        raise ValueError(f"{prefix}must not have spaces or other characters that a URL writes as %XX")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError(f"{prefix}must have a host that can be read") from None
    if "@" in parts.path:  # a password with a slash in it would be taken for the path, and be shown
        raise ValueError(f"{prefix}must not have an @ behind the host (/ : @ in a password are written %XX)")
    if not may_have_query and ("?" in text or "#" in text):
        raise ValueError(f"{prefix}must not have a ? or # (within a password they are written %3F and %23)")
    if parts.scheme != "unix":
        _check_address(parts, prefix)
    _check_login(parts, prefix, login_rule)
    return parts


def _check_login(parts: SplitResult, prefix: str, login_rule: str | None) -> None:
    login, at, _ = parts.netloc.rpartition("@")
    if login_rule is not None and at:
        raise ValueError(f"{prefix}must not hold a user or password{login_rule}")
    if login_rule is None and re.search("%(?![0-9A-Fa-f]{2})", login + parts.query):
        raise ValueError(f"{prefix}must have no % but as in %2F (within a password it is written %25)")


def _check_address(parts: SplitResult, prefix: str) -> None:
    try:
        port = 0 if parts.netloc.endswith(":") else parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"{prefix}must have a port from 1 to 65535, or none (/ : @ in a password are written %XX)")
    host = parts.hostname or ""
    if not _HOST_NAME.fullmatch(host) and not (":" in host and ip_address(host)):
        raise ValueError(f"{prefix}must have a host")


def ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address if `host` is one, None if it is a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Proxies:
    """Through which proxy calls go, by their scheme; `exempt` lists hosts that are called directly, `*` all."""

    by_scheme: Mapping[str, SecretUrl | None] = field(default_factory=dict)
    exempt: tuple[str, ...] = ()

    def proxy_for(self, scheme: str, host: str) -> str | None:
        """The URL of the proxy for calls with this scheme to this host; None: directly."""
        proxy = self.by_scheme.get(scheme)
        if proxy is None or _is_local(host) or any(entry and _covers(entry, host) for entry in self.exempt):
            return None
        return proxy.get_secret_value()


def _covers(entry: str, host: str) -> bool:
    """True if an entry of NO_PROXY names the host: `*`, a name, a domain with what is below it, or a network."""
    if (address := ip_address(host)) is not None:
        with suppress(ValueError):
            return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
    domain = entry.removeprefix("*").removeprefix(".")
    return entry == "*" or host == domain or host.endswith(f".{domain}")


def _is_local(host: str) -> bool:
    """True for what no proxy can reach for us: this machine, and its link, where the metadata service is."""
    address = ip_address(host)
    if address is None:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_link_local

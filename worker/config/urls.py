"""Validators of URLs: broker, DCS and IAM, Redis, trace collector.

An invalid URL is never repeated in an error: it is unknown which part of it is a password.
"""

import ipaddress
import json
import re
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from pydantic import Secret

from worker.config.regions import REGION_NAME

_FORBIDDEN_CHARACTERS = re.compile(r"[^\x21-\x7e]|\\")
_HOST_NAME = re.compile(r"[0-9A-Za-z_]([0-9A-Za-z._-]{0,252})")


class SecretUrl(Secret[str]):
    """A URL that may hold a password: printed and serialized without it; `get_secret_value()` returns it whole."""

    @property
    def scheme(self) -> str:
        """The scheme in lower case."""
        return urlsplit(self.get_secret_value()).scheme

    def _display(self) -> str:
        parts = urlsplit(self.get_secret_value())
        login, at, address = parts.netloc.rpartition("@")
        user, colon, _ = login.partition(":")
        # A login without a colon may be a password in the wrong place.
        masked = f"{user}:***" if colon else "***"
        query = "?***" if parts.query else ""
        return f"{parts.scheme}://{masked if at else ''}{at}{address}{parts.path}{query}"


def broker_urls(text: str) -> tuple[SecretUrl, ...]:
    """Read the addresses of one cluster's nodes, separated by commas: `amqp://user:password@host:port/vhost`.

    As in the AMQP URI specification, but an empty path means the virtual host `/`, as in the Python clients, and as
    `//` and `/%2F` do. `?auth=external` at the end logs in by the client's certificate (SASL EXTERNAL). Either all
    addresses are encrypted or none is.
    """
    items = [item.strip() for item in text.split(",")]
    urls = tuple(_broker_url(item, _position_prefix(at, items)) for at, item in enumerate(items, 1))
    if len({url.scheme for url in urls}) > 1:
        raise ValueError("must not mix amqp:// and amqps://")
    return urls


def service_url(text: str) -> str:
    """Read the base URL of a service, https except on loopback; returned without a slash at the end."""
    return _service_url(text, "")


def endpoints(text: str) -> dict[str, str]:
    """Read a JSON object of regions and base URLs."""
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        reason = f" ({error.msg} at character {error.pos + 1})" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"must be a JSON object of region and base URL{reason}") from None
    if not isinstance(pairs, _Pairs):
        raise ValueError("must be a JSON object of region and base URL")
    found: dict[str, str] = {}
    for at, (region, url) in enumerate(pairs, 1):
        if not REGION_NAME.fullmatch(region):
            raise ValueError(f"entry {at} must begin with the name of a region like cn-north-4")
        if region in found:
            raise ValueError(f"has the region {region} twice")
        found[region] = _service_url(url if isinstance(url, str) else "", f"the URL of {region} ")
    return found


def claims_url(text: str) -> SecretUrl:
    """Read the address of the Redis server for claims."""
    parts = _split_url(text, "", ("redis", "rediss", "unix"))
    if parts.scheme == "unix" and len(parts.path) < 2:
        raise ValueError("must have a path, like unix:///run/redis.sock")
    if parts.scheme != "unix":
        _check_address(parts, "")
    return SecretUrl(_with_plain_scheme(text))


def proxy_url(text: str) -> SecretUrl:
    """Read the address of a proxy, with or without a scheme: `http://user:password@host:port`."""
    url = text if "://" in text else f"http://{text}"
    if url.lower().startswith("socks"):
        raise ValueError("SOCKS proxies are not supported; name an http:// or https:// proxy")
    parts = _split_url(url, "", ("http", "https"))
    _check_no_query(url, "")
    _check_address(parts, "")
    return SecretUrl(_with_plain_scheme(url))


def collector_url(text: str) -> str:
    """Read the address of the trace collector. Its credentials are in OTEL_EXPORTER_OTLP_HEADERS."""
    parts = _split_url(text, "", ("http", "https"))
    if "@" in parts.netloc:
        raise ValueError("must not hold a user or password: OTEL_EXPORTER_OTLP_HEADERS is for them")
    _check_address(parts, "")
    return text


class _Pairs(list[tuple[str, object]]):
    """The members of a JSON object in order, repeated names included."""


def _position_prefix(at: int, items: list[str]) -> str:
    return f"address {at} " if len(items) > 1 else ""


def _broker_url(text: str, prefix: str) -> SecretUrl:
    parts = _split_url(text, prefix, ("amqp", "amqps"))
    # The one permitted parameter: log in by the client's certificate instead of a password.
    _check_no_query(text.removesuffix("?auth=external"), prefix)
    _check_address(parts, prefix)
    if parts.path != "//" and "/" in parts.path[1:]:
        raise ValueError(f"{prefix}must have one virtual host; a slash within its name is written %2F")
    return SecretUrl(_with_plain_scheme(text))


def _service_url(text: str, prefix: str) -> str:
    parts = _split_url(text, prefix, ("https", "http"))
    if "@" in parts.netloc:
        raise ValueError(f"{prefix}must not hold a user or password")
    _check_no_query(text, prefix)
    _check_address(parts, prefix)
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ValueError(f"{prefix}must begin with https:// (http:// is for this machine's own addresses)")
    return _with_plain_scheme(text).rstrip("/")


def _with_plain_scheme(text: str) -> str:
    """Write the scheme in lower case, so that it can be compared."""
    scheme, rest = text.split(":", 1)
    return f"{scheme.lower()}:{rest}"


def _split_url(text: str, prefix: str, schemes: Collection[str]) -> SplitResult:
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
    return parts


def _check_no_query(text: str, prefix: str) -> None:
    if "?" in text or "#" in text:
        raise ValueError(f"{prefix}must not have a ? or # (within a password they are written %3F and %23)")


def _check_address(parts: SplitResult, prefix: str) -> None:
    try:
        port = 0 if parts.netloc.endswith(":") else parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"{prefix}must have a port from 1 to 65535, or none (/ : @ in a password are written %XX)")
    if not _is_host(parts.hostname or ""):
        raise ValueError(f"{prefix}must have a host")


def _is_host(text: str) -> bool:
    return _HOST_NAME.fullmatch(text) is not None or (":" in text and _is_address(text))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)

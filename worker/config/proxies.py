"""The proxies of the usual variables `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either case."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_network

from worker.config.urls import SecretUrl, ip_address, proxy_url

SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class Proxies:
    """Through which proxy calls go, by their scheme; `exempt` lists hosts that are called directly."""

    by_scheme: Mapping[str, SecretUrl] = field(default_factory=dict)
    exempt: tuple[str, ...] = ()

    def proxy_for(self, scheme: str, host: str) -> str | None:
        """The URL of the proxy for calls with this scheme to this host; None: directly."""
        proxy = self.by_scheme.get(scheme)
        if proxy is None or _is_local(host) or any(_covers(entry, host) for entry in self.exempt):
            return None
        return proxy.get_secret_value()


def read_proxies(environ: Mapping[str, str]) -> tuple[Proxies, list[str]]:
    """The proxies, and a line for each that cannot be used."""
    by_scheme: dict[str, SecretUrl] = {}
    problems: list[str] = []
    _, text = _first(environ, "no_proxy")
    exempt = tuple(entry for item in text.split(",") if (entry := item.strip().lower()))
    for scheme in () if "*" in exempt else SCHEMES:
        name, text = _first(environ, f"{scheme}_proxy", "all_proxy")
        if not text:
            continue
        try:
            by_scheme[scheme] = proxy_url(text)
        except ValueError as error:
            if f"{name}: {error}" not in problems:
                problems.append(f"{name}: {error}")
    return Proxies(by_scheme, exempt), problems


def _first(environ: Mapping[str, str], *names: str) -> tuple[str, str]:
    """The first variable that is set, with its text. Lower case goes first, as in curl."""
    for name in (spelt for lower in names for spelt in (lower, lower.upper())):
        if text := environ.get(name, "").strip():
            return name, text
    return names[0], ""


def _covers(entry: str, host: str) -> bool:
    """True if an entry of NO_PROXY names the host: a name, a domain with what is below it, or a network."""
    if (address := ip_address(host)) is not None:
        with suppress(ValueError):
            return address in ip_network(entry.strip("[]"), strict=False)
    domain = entry.removeprefix("*").removeprefix(".")
    return host == domain or host.endswith(f".{domain}")


def _is_local(host: str) -> bool:
    """True for what no proxy can reach for us: this machine, and its link, where the metadata service is."""
    address = ip_address(host)
    if address is None:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_link_local

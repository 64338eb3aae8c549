"""The usual variables that name proxies."""

from pathlib import Path

import pytest

from worker.config import ConfigurationError, load
from worker.config.urls import Proxies

PROXY = "http://proxy.example:3128"
TOKEN = {"WORKER_AUTH_TOKEN": "t"}


def proxies_of(environ: dict[str, str]) -> Proxies:
    """The proxies of such an environment."""
    return load({**environ, **TOKEN}, folder=Path("/nonexistent")).proxies


@pytest.mark.parametrize(
    ("environ", "scheme", "found"),
    [
        ({}, "https", None),
        ({"HTTPS_PROXY": PROXY}, "https", PROXY),
        ({"HTTPS_PROXY": PROXY}, "http", None),
        ({"https_proxy": PROXY}, "https", PROXY),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other"}, "https", PROXY),
        ({"HTTP_PROXY": PROXY}, "http", PROXY),
        ({"ALL_PROXY": PROXY}, "https", PROXY),
        ({"ALL_PROXY": "http://other", "HTTPS_PROXY": PROXY}, "https", PROXY),
        ({"HTTPS_PROXY": "proxy.example:3128"}, "https", PROXY),
        ({"HTTPS_PROXY": " "}, "https", None),
        ({"HTTPS_PROXY": "http://user:p%40ss@proxy:1"}, "https", "http://user:p%40ss@proxy:1"),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, "https", None),
    ],
)
def test_proxy_is_that_of_the_scheme(environ: dict[str, str], scheme: str, found: str | None) -> None:
    """In either case, with or without a scheme of its own."""
    assert proxies_of(environ).proxy_for(scheme, "dcs.example.com") == found


@pytest.mark.parametrize(
    ("no_proxy", "host", "is_exempt"),
    [
        ("", "dcs.example.com", False),
        (",", "dcs.example.com.", False),
        ("dcs.example.com", "dcs.example.com", True),
        ("example.com", "dcs.example.com", True),
        (".example.com", "dcs.example.com", True),
        ("*.example.com", "dcs.example.com", True),
        ("EXAMPLE.com , other", "dcs.example.com", True),
        ("ample.com", "dcs.example.com", False),
        ("dcs.example.com", "example.com", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("[fd00::1]", "fd00::1", True),
        ("fd00::/8", "fd00::1", True),
        ("/", "dcs.example.com", False),
        ("", "localhost", True),
        ("", "worker.localhost", True),
        ("", "127.0.0.1", True),
        ("", "127.9.9.9", True),
        ("", "::1", True),
        ("", "169.254.169.254", True),
        ("", "10.0.0.1", False),
    ],
)
def test_some_hosts_are_called_directly(no_proxy: str, host: str, is_exempt: bool) -> None:
    """Those in NO_PROXY, and always those of this machine and its link, where the metadata service is."""
    proxies = proxies_of({"HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy})
    assert (proxies.proxy_for("https", host) is None) == is_exempt


@pytest.mark.parametrize("url", ["socks5://user:secret@proxy:1080", "socks5h://proxy", "SOCKS4://proxy"])
def test_socks_is_refused_at_the_start(url: str, tmp_path: Path) -> None:
    """With the name of the variable, and without the password."""
    for name in ("HTTPS_PROXY", "all_proxy"):
        with pytest.raises(ConfigurationError) as refused:
            load({name: url, **TOKEN}, folder=tmp_path)
        (problem,) = refused.value.problems
        assert problem == f"{name}: SOCKS proxies are not supported; name an http:// or https:// proxy"


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("ftp://proxy", "must begin with http:// or https://"),
        ("http://", "must have a host"),
        ("http://[::1", "must have a host that can be read"),
        ("http://proxy:port", "must have a port from 1 to 65535"),
        ("http://proxy:0", "must have a port from 1 to 65535"),
        ("http://pro xy:3128", "must not have spaces"),
        ("http://*:80", "must have a host"),
        ("http://%zz:1", "must have a host"),
        ("http://proxy:3128?x=1", "must not have"),
        ("http://u:sek%zzr3t@proxy:1", "must have no % but as in %2F"),
    ],
)
def test_unusable_url_is_refused_with_the_rule(url: str, rule: str, tmp_path: Path) -> None:
    """It is not repeated."""
    with pytest.raises(ConfigurationError, match=rf"^HTTPS_PROXY: {rule}"):
        load({"HTTPS_PROXY": url, **TOKEN}, folder=tmp_path)


def test_scheme_of_a_proxy_is_read_in_any_case() -> None:
    """The transport compares it: TLS to the proxy uses the configured authorities."""
    assert proxies_of({"HTTPS_PROXY": "HTTPS://proxy:1"}).proxy_for("https", "h") == "https://proxy:1"


def test_commands_that_call_no_service_need_no_proxy(tmp_path: Path) -> None:
    """Those that only speak with the broker."""
    loaded = load({"HTTPS_PROXY": "socks5://proxy"}, folder=tmp_path, credentials=False)
    assert loaded.proxies.proxy_for("https", "h") is None


def test_proxies_are_loaded_and_not_shown(tmp_path: Path) -> None:
    """Their passwords stay masked."""
    loaded = load({"HTTPS_PROXY": "http://user:secret@proxy:1", **TOKEN}, folder=tmp_path)
    assert loaded.proxies.proxy_for("https", "h") == "http://user:secret@proxy:1"
    assert "secret" not in repr(loaded.proxies)


@pytest.mark.parametrize(
    "environ",
    [
        {"HTTPS_PROXY": "socks5://proxy", "NO_PROXY": "a, *"},
        {"HTTPS_PROXY": PROXY, "http_proxy": PROXY, "ALL_PROXY": "socks5://proxy"},
    ],
)
def test_proxy_that_no_call_uses_need_not_be_valid(environ: dict[str, str]) -> None:
    """Many desktops set one for all programs."""
    assert "socks" not in str(proxies_of(environ).proxy_for("https", "h"))


def test_proxies_are_settings_like_others(tmp_path: Path) -> None:
    """In secret files, which rotate, and in `.env`; a variable of the environment goes before both."""
    (tmp_path / "https_proxy").write_text("http://user:old@proxy:1\n")
    (tmp_path / ".env").write_text("HTTPS_PROXY=http://unused\nHTTP_PROXY=http://dotenv\n")
    loaded = load({"WORKER_SECRETS_DIR": str(tmp_path), **TOKEN}, folder=tmp_path)
    assert loaded.proxies.proxy_for("https", "h") == "http://user:old@proxy:1"
    assert loaded.proxies.proxy_for("http", "h") == "http://dotenv"
    (tmp_path / "https_proxy").write_text("http://user:new@proxy:1\n")
    assert loaded.proxies.proxy_for("https", "h") == "http://user:new@proxy:1"
    (tmp_path / "https_proxy").unlink()
    assert loaded.proxies.proxy_for("https", "h") == "http://user:new@proxy:1"
    assert "new" not in repr(loaded)
    for name in ("HTTPS_PROXY", "https_proxy"):
        fixed = load({"WORKER_SECRETS_DIR": str(tmp_path), name: PROXY, **TOKEN}, folder=tmp_path)
        assert fixed.proxies.proxy_for("https", "h") == PROXY

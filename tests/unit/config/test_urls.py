"""Addresses: which are accepted, which are refused, and what of them is shown."""

from pathlib import Path

import pytest

from worker.config import ConfigurationError, Settings, load
from worker.config.urls import REGION_RULE

PORT = "must have a port from 1 to 65535, or none (/ : @ in a password are written %XX)"
HOST = "must have a host"
TAIL = "must not have a ? or # (within a password they are written %3F and %23)"
QUERY = "must have no ? but before heartbeat, connection_timeout, auth (within a password it is written %3F)"
VHOST = "must not have a virtual host called . or .. or with %2F in its name"
AT = "must not have an @ behind the host (/ : @ in a password are written %XX)"
UNREADABLE = "must have a host that can be read"
DATABASE = "must have nothing or the number of a database behind the host, like redis://HOST:6379/0"
PERCENT = "must have no % but as in %2F (within a password it is written %25)"
SPACES = "must not have spaces or other characters that a URL writes as %XX"


def settings(**values: str) -> Settings:
    """Load without credentials and without the machine's own files."""
    return load(values, folder=Path("/nonexistent"), credentials=False).settings


def problems(**values: str) -> list[str]:
    """Return the problems that loading ends with."""
    with pytest.raises(ConfigurationError) as caught:
        settings(**values)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://localhost", "amqp://localhost"),
        ("amqp://localhost/", "amqp://localhost"),
        ("amqp://localhost//", "amqp://localhost//"),
        ("amqp://localhost/%2F", "amqp://localhost/%2F"),
        ("amqp://user:p%2Cw@[::1]:5672/a%2Fb", "amqp://user:***@[::1]:5672/a%2Fb"),
        ("amqps://user:p@ss^w0rd@broker.example.com/v", "amqps://user:***@broker.example.com/v"),
        ("amqps://broker.example.com/v?auth=external", "amqps://broker.example.com/v?***"),
        ("amqp://h/v?heartbeat=30&connection_timeout=2500", "amqp://h/v?***"),
        ("amqp://h./a%252f", "amqp://h./a%252f"),
        ("amqp://lonely@my_broker:1/", "amqp://***@my_broker:1"),
    ],
)
def test_valid_broker_url_is_kept(url: str, shown: str) -> None:
    """A broker's URL is kept unchanged and shown without its password."""
    (read,) = settings(WORKER_AMQP_URL=url).amqp_url
    assert read.get_secret_value() == url
    assert str(read) == shown
    assert repr(read) == f"SecretUrl({shown!r})"


def test_several_broker_urls_are_one_cluster() -> None:
    """URLs separated by commas are the nodes of one cluster, in this order."""
    read = settings(WORKER_AMQP_URL="amqps://a:x@one, amqps://a:x@two:1").amqp_url
    assert [str(url) for url in read] == ["amqps://a:***@one", "amqps://a:***@two:1"]


def test_scheme_is_written_in_lower_case() -> None:
    """A scheme in capitals is the same scheme, and is kept as the rest of the worker compares it."""
    read = settings(
        WORKER_AMQP_URL="AMQPS://h",
        WORKER_CLAIMS_URL="Redis://h",
        WORKER_DCS_ENDPOINTS='{"cn-north-4": "HTTPS://h/A/"}',
    )
    assert read.claims_url is not None
    assert [url.get_secret_value() for url in (*read.amqp_url, read.claims_url)] == ["amqps://h", "redis://h"]
    assert read.dcs_endpoints["cn-north-4"] == "https://h/A"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://h", "must begin with amqp:// or amqps://"),
        ("localhost:5672", "must begin with amqp:// or amqps://"),
        ("amqp://", HOST),
        ("amqp:///vhost", HOST),
        ("amqp://-/", HOST),
        ("amqp://[1::zz]/", UNREADABLE),
        ("amqp://[::1/", UNREADABLE),
        ("amqp://h:0/", PORT),
        ("amqp://h:/", PORT),
        ("amqp://h:65536/", PORT),
        ("amqp://user:secret/word@h/", AT),
        ("amqp://user:1/word@h", AT),
        ("amqp://user:pass?word@h/", QUERY),
        ("amqp://user:pass#word@h/", TAIL),
        ("amqp://h/?", QUERY),
        ("amqp://h/?heartbeat=0", "must have 1 to 60 seconds as heartbeat"),
        ("amqp://h/?heartbeat=61", "must have 1 to 60 seconds as heartbeat"),
        ("amqp://h/?connection_timeout=5", "must have 100 to 99999 milliseconds as connection_timeout"),
        ("amqp://h/?heartbeat=30&auth=plain", "must have external as auth"),
        ("amqp://h/?heartbeat=30&channel_max=5", QUERY),
        ("amqp://h/%252F", VHOST),
        ("amqp://h/..", VHOST),
        ("amqp://user:pass word@h/", SPACES),
        ("amqp://user:pass\\word@h/", SPACES),
        ("amqp://user:sek%zzr3t@h/", PERCENT),
        ("amqp://a,amqp://us%er:p@h/", f"address 2 {PERCENT}"),
        ("amqp://h/a/b", "must have one virtual host; a slash within its name is written %2F"),
        ("amqp://u:p,w@h/", f"address 1 {PORT}"),
        ("amqp://a,b", "address 2 must begin with amqp:// or amqps:// (a comma within a password is written %2C)"),
        ("amqp://a,", "address 2 must begin with amqp:// or amqps:// (a comma within a password is written %2C)"),
        ("amqp://a,amqps://b", "must not mix amqp:// and amqps://"),
    ],
)
def test_invalid_broker_url_is_rejected(url: str, problem: str) -> None:
    """An invalid broker URL is rejected without being repeated."""
    assert problems(WORKER_AMQP_URL=url) == [f"WORKER_AMQP_URL: {problem}"]


@pytest.mark.parametrize(
    "url",
    [
        "https://dcs.example.com",
        "https://10.0.0.1:8443/dcs",
        "http://127.0.0.1:8080",
        "http://127.8.9.1",
        "http://localhost:1",
        "http://[::1]:1",
    ],
)
def test_endpoints_are_https_or_loopback(url: str) -> None:
    """An endpoint is https, or on loopback; a slash at its end is removed."""
    read = settings(WORKER_DCS_ENDPOINTS=f'{{"cn-north-4": "{url}/", "eu-de": "https://other.example.com"}}')
    assert dict(read.dcs_endpoints) == {"cn-north-4": url, "eu-de": "https://other.example.com"}


NOT_HTTPS = "must begin with https:// (http:// is for this machine's own addresses)"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://dcs.example.com", NOT_HTTPS),
        ("http://127.0.0.1.example.com", NOT_HTTPS),
        ("http://2130706433", NOT_HTTPS),
        ("http://10.0.0.1", NOT_HTTPS),
        ("ftp://h", "must begin with https:// or http://"),
        ("", "must begin with https:// or http://"),
        ("https://user:secret@h", "must not hold a user or password"),
        ("https://h/?a=b", TAIL),
        ("https://h/?", TAIL),
        ("https://h/#a", TAIL),
        ("https://:443", HOST),
        ("https://h:x", PORT),
        ("https://h/a b", SPACES),
    ],
)
def test_insecure_endpoint_is_rejected(url: str, problem: str) -> None:
    """An endpoint to which credentials must not be sent is rejected with its region; an IAM address likewise."""
    assert problems(WORKER_DCS_ENDPOINTS=f'{{"cn-north-4": "{url}"}}') == [
        f"WORKER_DCS_ENDPOINTS: the URL of cn-north-4 {problem}"
    ]
    if url:
        assert problems(WORKER_IAM_ENDPOINT=url) == [f"WORKER_IAM_ENDPOINT: {problem}"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "must be a JSON object of region and base URL (Expecting property name enclosed in double quotes at "
         "character 2)"),
        ('{"a": ' + "9" * 5000 + "}", "must be a JSON object of region and base URL"),
        ("[" * 100_000, "must be a JSON object of region and base URL"),
        ('["a"]', "must be a JSON object of region and base URL"),
        ('{"cn-north-4": 5}', "the URL of cn-north-4 must begin with https:// or http://"),
        ('{"a": "https://h", "a": "https://i"}', "has the region a twice"),
        ('{"https://user:secret@h": "a"}', f"entry 1 must begin with {REGION_RULE}"),
    ],
)  # fmt: skip
def test_invalid_endpoint_map_is_rejected(text: str, problem: str) -> None:
    """A value that is no map of regions to URLs is rejected without being repeated."""
    assert problems(WORKER_DCS_ENDPOINTS=text) == [f"WORKER_DCS_ENDPOINTS: {problem}"]


def test_default_endpoint_follows_region() -> None:
    """Without a map, or with an empty one, a known region has its usual address and is the only one."""
    expected = {"tr-west-1": "https://dcs.tr-west-1.myhuaweicloud.com"}
    assert dict(settings(WORKER_DCS_REGION="tr-west-1").dcs_endpoints) == expected
    assert dict(settings(WORKER_DCS_REGION="tr-west-1", WORKER_DCS_ENDPOINTS="{}").dcs_endpoints) == expected


@pytest.mark.parametrize("region", ["eu-de", "eu-west-0", "ru-moscow-1", "eu-west-2"])
def test_default_region_must_have_an_endpoint(region: str) -> None:
    """A region that is neither Huawei's own nor in the map is refused with what to do; partners' are not guessed."""
    assert problems(WORKER_DCS_REGION=region) == [
        f"WORKER_DCS_REGION: the address of {region!r} is not known, set WORKER_DCS_ENDPOINTS"
    ]


def test_endpoint_map_must_have_the_default_region() -> None:
    """A map without the default region is refused."""
    assert problems(WORKER_DCS_ENDPOINTS='{"eu-de": "https://h"}') == [
        "WORKER_DCS_REGION: must be one of the regions in WORKER_DCS_ENDPOINTS, not 'cn-north-4'"
    ]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1", "redis://127.0.0.1"),
        ("rediss://:secret@r.example.com:6380/1?ssl_cert_reqs=none", "rediss://:***@r.example.com:6380/1?***"),
        ("unix:///run/redis.sock?password=secret", "unix:///run/redis.sock?***"),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock?***"),
        ("redis://h/15/", "redis://h/15/"),
        ("redis://h:1/", "redis://h:1"),
        ("redis://u:100%25@h?db=3", "redis://u:***@h?***"),
    ],
)
def test_valid_claims_url_is_kept(url: str, shown: str) -> None:
    """The claims URL is kept unchanged and shown without password and options."""
    read = settings(WORKER_CLAIMS_URL=url).claims_url
    assert read is not None
    assert (read.get_secret_value(), str(read)) == (url, shown)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("localhost", "must begin with redis:// or rediss:// or unix://"),
        ("redis://", HOST),
        ("redis://u:1/word@h", AT),
        ("unix://", "must have a path, like unix:///run/redis.sock"),
        ("redis://h/abc", DATABASE),
        ("redis://h/0/zz", DATABASE),
        ("rediss://h/O", DATABASE),
        ("redis://h/-1", DATABASE),
        ("redis://h//1", DATABASE),
        ("redis://h?db=zz", DATABASE),
        ("unix:///run/redis.sock?db=", DATABASE),
        ("redis://u:sek%zzr3t@h/0", PERCENT),
        ("unix:///run/redis.sock?password=sek%", PERCENT),
    ],
)
def test_invalid_claims_url_is_rejected(url: str, problem: str) -> None:
    """An invalid claims URL is rejected without being repeated."""
    assert problems(WORKER_CLAIMS_URL=url) == [f"WORKER_CLAIMS_URL: {problem}"]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("collector:4317", "must begin with http:// or https://"),
        ("http://", HOST),
        ("http://user:secret@h", "must not hold a user or password: OTEL_EXPORTER_OTLP_HEADERS is for them"),
    ],
)
def test_collector_url_with_password_is_rejected(url: str, problem: str) -> None:
    """The trace collector's URL is shown everywhere, so it must not hold a password."""
    assert problems(OTEL_EXPORTER_OTLP_ENDPOINT=url) == [f"OTEL_EXPORTER_OTLP_ENDPOINT: {problem}"]


def test_tls_files_need_amqps_and_each_other(tmp_path: Path) -> None:
    """Certificate and key belong together, and all three files need amqps."""
    pem = tmp_path / "a.pem"
    pem.write_text("")
    tls, ca, cert, key = (
        {"WORKER_AMQP_URL": "amqps://h"},
        {"WORKER_AMQP_CA_FILE": str(pem)},
        {"WORKER_AMQP_CERT_FILE": str(pem)},
        {"WORKER_AMQP_KEY_FILE": str(pem)},
    )
    assert settings(**tls, **ca, **cert, **key).amqp_key_file == pem
    assert problems(**tls, **cert) == ["WORKER_AMQP_KEY_FILE: is missing, WORKER_AMQP_CERT_FILE needs it"]
    assert problems(**tls, **key) == ["WORKER_AMQP_CERT_FILE: is missing, WORKER_AMQP_KEY_FILE needs it"]
    assert problems(**ca) == ["WORKER_AMQP_CA_FILE: is of use only when WORKER_AMQP_URL begins with amqps://"]
    assert problems(**cert, **key) == [
        "WORKER_AMQP_CERT_FILE: is of use only when WORKER_AMQP_URL begins with amqps://"
    ]

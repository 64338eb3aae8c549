"""What connections are made of follows its files; rotations and files that cannot be used are reported once."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from tests.unit.dcs.raw_server import AUTHORITY, http, server_tls, serving
from worker import __version__
from worker.bootstrap.rotation import CurrentBrokers, CurrentServices, RotationReport, rotation_reports
from worker.config import ConfigurationError, load, secret_texts
from worker.dcs.http_client import HttpClient, new_request
from worker.observe.logging import configure_logging
from worker.observe.metrics import Metrics
from worker.observe.observer import WorkerObserver
from worker.policy.call_result import CallError
from worker.policy.freeze_detector import FreezeDetector

CERT, KEY, CA = ("worker_cert.pem", "worker_key.pem", "ca.pem")


class RecordingObserver(WorkerObserver):
    """Keeps what it is told to note."""

    def __init__(self) -> None:
        super().__init__(Metrics(__version__, ["cn-north-4"], False), configure_logging("critical", "json", None))
        self.notes: list[tuple[str, str]] = []

    def note(self, level: str, event: str, **fields: object) -> None:
        """Keep the level and the message."""
        self.notes.append((level, str(fields["message"])))


def replace(path: Path, content: str | bytes) -> None:
    """Replace a file in one step, as the kubelet and cert-manager do."""
    new = path.with_name(f".{path.name}")
    new.write_bytes(content if isinstance(content, bytes) else content.encode())
    new.replace(path)


def issue(authority: trustme.CA, folder: Path) -> None:
    """Replace the client's certificate and key."""
    issued = authority.issue_cert("worker")
    replace(folder / CERT, b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    replace(folder / KEY, issued.private_key_pem.bytes())


def environment(folder: Path, **values: str) -> dict[str, str]:
    """The environment of a worker whose secret files are in `folder`."""
    return {"WORKER_SECRETS_DIR": str(folder), "WORKER_AUTH_TOKEN": "t", **values}


def over_tls(folder: Path) -> dict[str, str]:
    """The settings of a broker that wants a client certificate."""
    files = {"CA": CA, "CERT": CERT, "KEY": KEY}
    return {"WORKER_AMQP_URL": "amqps://broker/"} | {
        f"WORKER_AMQP_{name}_FILE": str(folder / file) for name, file in files.items()
    }


def test_url_follows_its_secret_file(tmp_path: Path) -> None:
    """Broker and Redis, each apart: a file that is wrong leaves that one URL as it was."""
    replace(tmp_path / "worker_amqp_url", "amqp://worker:old@one/\n")
    replace(tmp_path / "worker_claims_url", "redis://:old@redis/")
    loaded = load(environment(tmp_path), folder=tmp_path)
    brokers, observer = CurrentBrokers(loaded), RecordingObserver()
    reports = [RotationReport(url, observer) for url in loaded.urls]
    assert brokers().urls == ("amqp://worker:old@one/",)

    replace(tmp_path / "worker_amqp_url", "amqp://worker:new@one/,amqp://worker:new@two/\n")
    replace(tmp_path / "worker_claims_url", "http://:new@redis/")
    assert brokers().urls == ("amqp://worker:new@one/", "amqp://worker:new@two/")
    assert loaded.current.claims_url == loaded.settings.claims_url
    for report in (*reports, *reports):
        report.check()
    assert observer.notes == [
        ("info", "WORKER_AMQP_URL was rotated; the next connection uses the new value"),
        (
            "warning",
            "The secrets from before stay in use: WORKER_CLAIMS_URL: must begin with redis:// or rediss:// or unix://",
        ),
    ]

    replace(tmp_path / "worker_claims_url", "redis://:new@redis/")
    reports[1].check()
    assert loaded.current.claims_url is not None
    assert loaded.current.claims_url.get_secret_value() == "redis://:new@redis/"
    assert [message for _, message in observer.notes[2:]] == [
        "WORKER_CLAIMS_URL was rotated; the next connection uses the new value",
        "The secret files can be read again",
    ]
    assert "old" not in str(observer.notes) + repr(loaded)


def test_password_of_a_rotated_url_is_redacted_alone(tmp_path: Path) -> None:
    """As it is written in the URL, and decoded; those from before stay secrets."""
    replace(tmp_path / "worker_amqp_url", "amqp://worker:n%2Fothing@one/")
    replace(tmp_path / "worker_claims_url", "redis://redis/?password=old%20one&ssl_password=phrase")
    loaded, observer = load(environment(tmp_path), folder=tmp_path), RecordingObserver()
    observer.redactor.add(secret_texts(dict(loaded.settings).values()))
    reports = [RotationReport(url, observer) for url in loaded.urls]
    replace(tmp_path / "worker_amqp_url", "amqp://worker:s%40cret%21@one/,amqp://worker:other-node@two/")
    replace(tmp_path / "worker_claims_url", "redis://:new-one@redis/")
    for report in reports:
        report.check()
    passwords = "n%2Fothing n/othing old%20one|old one|phrase s%40cret%21 s@cret! other-node new-one"
    assert observer.redactor.redact(f"{passwords} worker") == "*** *** ***|***|*** *** *** *** *** worker"


def test_certificates_are_read_at_each_attempt(tmp_path: Path) -> None:
    """A renewed certificate is used from the next attempt on; while certificate and key do not fit, the former pair."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / CA))
    issue(authority, tmp_path)
    loaded = load(environment(tmp_path, **over_tls(tmp_path)), folder=tmp_path)
    brokers, observer = CurrentBrokers(loaded), RecordingObserver()
    report, first = RotationReport(brokers, observer), brokers().tls
    assert isinstance(first, ssl.SSLContext)

    renewed = authority.issue_cert("worker")
    replace(tmp_path / CERT, b"".join(blob.bytes() for blob in renewed.cert_chain_pems))
    half_way = brokers().tls
    report.check()
    replace(tmp_path / KEY, renewed.private_key_pem.bytes())
    after = brokers().tls
    report.check()
    assert isinstance(after, ssl.SSLContext)
    assert after is not half_way
    problem = "WORKER_AMQP_KEY_FILE: is not the key of WORKER_AMQP_CERT_FILE"
    assert observer.notes == [
        ("warning", f"The secrets from before stay in use: {problem}"),
        ("info", "The secret files can be read again"),
    ]


async def answer_of(services: CurrentServices, url: str) -> str:
    """What a call of DCS ends with."""
    http = HttpClient(services.transport, deadline=5, freeze_detector=FreezeDetector(lambda: 0.0))
    answer = await http.send(new_request("list", "GET", url))
    return answer.message if isinstance(answer, CallError) else answer.text


async def test_authorities_of_services_are_read_when_they_change(tmp_path: Path) -> None:
    """The next call trusts the renewed file; while it cannot be used, the former one."""
    other, path = trustme.CA(), tmp_path / CA
    other.cert_pem.write_to_path(str(path))
    loaded = load(environment(tmp_path, WORKER_DCS_CA_FILE=str(path)), folder=tmp_path)
    services, observer = CurrentServices(loaded), RecordingObserver()
    report = RotationReport(services, observer)
    async with serving(http(200, b"read"), tls=server_tls()) as server:
        assert "certificate" in await answer_of(services, server.url)
        replace(path, AUTHORITY.cert_pem.bytes())
        report.check()
        assert await answer_of(services, server.url) == "read"
        for content in ("nothing", None):
            replace(path, content) if content else path.unlink()
            report.check()
            assert await answer_of(services, server.url) == "read"
        replace(path, AUTHORITY.cert_pem.bytes())
        report.check()
        report.check()
        assert len(server.connections) == 1
        await services.transport.aclose()
    rotated = ("info", "WORKER_DCS_CA_FILE was rotated; the next call uses the new value")
    problem = "The secrets from before stay in use: WORKER_DCS_CA_FILE: holds no certificates in PEM"
    assert observer.notes == [rotated, ("warning", problem), rotated, ("info", "The secret files can be read again")]


async def test_proxy_follows_its_secret_file(tmp_path: Path) -> None:
    """The next call goes through the new one, and its password is redacted by itself."""
    async with serving(http(200, b"one")) as one, serving(http(200, b"two")) as two:
        replace(tmp_path / "http_proxy", one.url)
        loaded = load(environment(tmp_path), folder=tmp_path)
        services, observer = CurrentServices(loaded), RecordingObserver()
        reports = rotation_reports(loaded, (CurrentBrokers(loaded), services), observer, lambda: None)
        assert await answer_of(services, "http://dcs.invalid") == "one"
        replace(tmp_path / "http_proxy", two.url.replace("//", "//user:pass-word@"))
        for report in reports:
            report.check()
        assert await answer_of(services, "http://dcs.invalid") == "two"
        await services.transport.aclose()
    assert observer.notes == [("info", "HTTP_PROXY was rotated; the next call uses the new value")]
    assert observer.redactor.redact("pass-word") == "***"


def encrypted(key: bytes) -> bytes:
    """The same key, encrypted."""
    encryption = serialization.BestAvailableEncryption(b"pass phrase")
    loaded = serialization.load_pem_private_key(key, None)
    return loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def swap(folder: Path) -> None:
    """Exchange certificate and key."""
    (folder / KEY).rename(folder / "other")
    (folder / CERT).rename(folder / KEY)
    (folder / "other").rename(folder / CERT)


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda folder: replace(folder / CA, "nothing"), "WORKER_AMQP_CA_FILE: holds no certificates in PEM"),
        (swap, "WORKER_AMQP_CERT_FILE: holds no certificates in PEM"),
        (lambda folder: replace(folder / KEY, b"\x30\x82"), "WORKER_AMQP_KEY_FILE: holds no private key in PEM"),
        (
            lambda folder: replace(folder / KEY, encrypted((folder / KEY).read_bytes())),
            "WORKER_AMQP_KEY_FILE: is encrypted with a pass phrase; "
            "write it without one: openssl pkey -in KEY -out NEW",
        ),
    ],
)
def test_wrong_certificate_file_is_named(tmp_path: Path, harm: Callable[[Path], None], problem: str) -> None:
    """At the start, where there is nothing from before, the one file that is wrong ends it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / CA))
    issue(authority, tmp_path)
    harm(tmp_path)
    loaded = load(environment(tmp_path, **over_tls(tmp_path)), folder=tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        CurrentBrokers(loaded)
    assert caught.value.problems == (problem,)

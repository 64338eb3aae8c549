"""Diagnostics: urgency of failures, supported broker versions, longest handling time."""

import ssl

import pytest

from worker.policy.diagnostics import (
    DEFAULT_CONSUMER_TIMEOUT_SECONDS,
    Check,
    CheckResult,
    FailureKind,
    HandlingTime,
    check_consumer_timeout,
    check_version,
    failed,
    most_urgent_failure,
    ok,
    tls_remedy,
    tls_words,
    unchecked,
    warning,
)


def _failure(kind: FailureKind) -> Check:
    return failed("broker", "is down", "start it", failure_kind=kind)


def _handling_time(call: float, other: float) -> HandlingTime:
    return HandlingTime(tries=1, permit_seconds=0.0, credential_seconds=0.0, call_seconds=call, other_seconds=other)


def test_warnings_and_unchecked_findings_are_no_failure() -> None:
    """Only failed checks have an urgency."""
    checks = [ok("a", "is fine"), warning("b", "is old", "renew it"), unchecked("c", "is not known")]

    assert most_urgent_failure(checks) is None


@pytest.mark.parametrize(
    ("kinds", "first"),
    [
        ([FailureKind.WRONG], FailureKind.WRONG),
        ([FailureKind.WRONG, FailureKind.UNREACHABLE], FailureKind.UNREACHABLE),
        ([FailureKind.UNREACHABLE, FailureKind.WRONG, FailureKind.CONFIGURATION], FailureKind.CONFIGURATION),
    ],
)
def test_configuration_is_the_most_urgent_failure(kinds: list[FailureKind], first: FailureKind) -> None:
    """Then comes what cannot be reached, then everything else."""
    assert most_urgent_failure([ok("a", "is fine"), *map(_failure, kinds)]) is first


@pytest.mark.parametrize("version", ["3.10.8", "3.12.13", "3.13.7", "4.0.5", "4.2.0-rc.1", "4.3.0", "4.3.6"])
def test_supported_version_is_ok(version: str) -> None:
    """The finding names it."""
    check = check_version("RabbitMQ", version, "host:5672")

    assert (check.result, check.subject) == (CheckResult.OK, "host:5672")
    assert check.found.startswith(f"RabbitMQ {version}: ")


@pytest.mark.parametrize("version", ["3.9.29", "2.8.7", "", "unknown"])
def test_version_before_3_10_fails(version: str) -> None:
    """Its quorum queues lack what the retry schedule needs."""
    check = check_version("RabbitMQ", version, "")

    assert check.result is CheckResult.FAILED
    assert "3.10" in (check.remedy or "")


def test_other_amqp_broker_is_a_warning() -> None:
    """The worker is not tested with brokers that only speak the same protocol."""
    assert check_version("LavinMQ", "2.1.0", "").result is CheckResult.WARNING


def test_worst_case_is_the_sum_of_all_calls_and_waits() -> None:
    """Three tries of a lookup and a create, two waits between them, and the other waits."""
    handling_time = HandlingTime(
        tries=3, permit_seconds=60.0, credential_seconds=15.0, call_seconds=30.0, other_seconds=140.0
    )

    assert handling_time.worst_case_seconds == 3 * 2 * 105.0 + 2 * 5.0 + 140.0


@pytest.mark.parametrize(
    ("call", "other", "result"),
    [
        (299.0, DEFAULT_CONSUMER_TIMEOUT_SECONDS / 2 - 600.0, CheckResult.OK),
        (301.0, DEFAULT_CONSUMER_TIMEOUT_SECONDS / 2 - 600.0, CheckResult.WARNING),
        (599.0, 600.0, CheckResult.WARNING),
        (601.0, 600.0, CheckResult.FAILED),
    ],
)
def test_half_of_the_consumer_timeout_is_ok_and_more_than_all_of_it_fails(
    call: float, other: float, result: CheckResult
) -> None:
    """Between half and all of it there is a warning."""
    check = check_consumer_timeout(_handling_time(call, other))

    assert check.result is result
    assert "assumes RabbitMQ's default consumer_timeout of 1800 s" in check.found
    assert (check.remedy is None) == (result is CheckResult.OK)


def test_remedy_names_a_sufficient_consumer_timeout() -> None:
    """It is twice the worst case, in the unit of rabbitmq.conf."""
    check = check_consumer_timeout(_handling_time(0.0, 2000.0))

    assert "`consumer_timeout = 4020000`" in (check.remedy or "")


def _rejected(code: int, message: str) -> ssl.SSLError:
    error = ssl.SSLCertVerificationError("certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return error


def _alert(reason: str | None) -> ssl.SSLError:
    error = ssl.SSLError("it failed")
    error.reason = reason  # type: ignore[assignment]  # None: OpenSSL knows no reason
    return error


@pytest.mark.parametrize(
    ("error", "words", "remedy"),
    [
        (_rejected(62, "Hostname mismatch"), "certificate rejected: Hostname mismatch", "use a host name"),
        (_rejected(9, "certificate is not yet valid"), "not yet valid", "renew the server's certificate"),
        (_rejected(10, "certificate has expired"), "has expired", "no other CA file helps"),
        (_rejected(20, "unable to get local issuer certificate"), "local issuer", "set WORKER_AMQP_CA_FILE"),
        (_rejected(23, "certificate revoked"), "certificate revoked", "replace the server's certificate"),
        (_alert("WRONG_VERSION_NUMBER"), "wrong version number", "correct scheme and port in WORKER_AMQP_URL"),
        (_alert("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "certificate required", "set WORKER_AMQP_CERT_FILE"),
        (_alert("TLSV1_ALERT_PROTOCOL_VERSION"), "protocol version", "compare the TLS versions and ciphers"),
        (_alert(None), "handshake failed", "compare"),
    ],
)
def test_remedy_of_a_tls_error_follows_its_cause(error: ssl.SSLError, words: str, remedy: str) -> None:
    """An expired certificate needs no other authority, and a right port no correction."""
    assert words in tls_words(error)
    assert remedy in tls_remedy(error, "WORKER_AMQP_URL")


def test_remedy_names_the_variables_of_the_service() -> None:
    """DCS asks for no client certificate."""
    assert "WORKER_DCS_CA_FILE" in tls_remedy(_rejected(19, "self-signed"), "WORKER_DCS_ENDPOINTS")
    assert "WORKER_AMQP" not in tls_remedy(_alert("SSLV3_ALERT_BAD_CERTIFICATE"), "WORKER_DCS_ENDPOINTS")

"""Results of `dcs-worker doctor` and `topology check`, and the checks without I/O: broker version, handling time."""

import math
import re
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from worker.policy.backoff import MAX_ATTEMPT_WAIT_SECONDS

DEFAULT_CONSUMER_TIMEOUT_SECONDS: Final = 1800.0
"""Default of every supported broker version: https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout."""
CALLS_PER_TRY: Final = 2
"""One lookup (of one page) and one create."""

_OLDEST_KNOWN: Final = (3, 10)
_NEWEST_KNOWN: Final = (4, 3)
# Verification results of OpenSSL: https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_USE_HOST: Final = "use a host name of the certificate in {variable}"
_RENEW: Final = "renew the server's certificate, or set this machine's clock: no other CA file helps"
_SET_AUTHORITY: Final = "set {settings}_CA_FILE to the certificate file of the CA that signed it"
_REMEDIES_BY_CODE: Final = {62: _USE_HOST, 64: _USE_HOST, 9: _RENEW, 10: _RENEW} | dict.fromkeys(
    (2, 18, 19, 20, 21), _SET_AUTHORITY
)
_NO_TLS_REASONS: Final = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
"""The peer answered, but not in TLS."""
_VERSION: Final = re.compile(r"(\d{1,4})\.(\d{1,4})")


class CheckResult(Enum):
    """Result of one check."""

    OK = "ok"
    WARNING = "warning"
    """It works, but an operator should know."""
    FAILED = "failed"
    NOT_CHECKED = "not checked"
    """The check does not apply or is not possible from here; `found` says which."""


class FailureKind(Enum):
    """Kind of a failure, in the order in which an operator has to fix them."""

    CONFIGURATION = "configuration"
    UNREACHABLE = "unreachable"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Problem:
    """What prevents the next step, in one sentence, and its remedy."""

    found: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: `name` of what was checked on which `subject`; `remedy` is a command or a variable to set."""

    name: str
    result: CheckResult
    found: str
    remedy: str | None = None
    subject: str = ""
    failure_kind: FailureKind | None = None


OnCheck = Callable[[Check], None]
"""Receives one finding at a time, so that findings before a deadline are not lost."""


@dataclass(frozen=True, slots=True)
class HandlingTime:
    """The parts of the longest time that a delivery can stay unacknowledged; each part is the longest possible one."""

    tries: int
    permit_seconds: float
    """Wait for the permit of a call."""
    credential_seconds: float
    """Wait for the credentials of a call."""
    call_seconds: float
    other_seconds: float
    """Waits for other deliveries and for publisher confirms."""

    @property
    def worst_case_seconds(self) -> float:
        """Seconds from delivery to acknowledgement while the broker answers.

        The prefetch does not count: all prefetched requests are handled at the same time.
        """
        calls = self.tries * CALLS_PER_TRY * (self.permit_seconds + self.credential_seconds + self.call_seconds)
        return calls + (self.tries - 1) * MAX_ATTEMPT_WAIT_SECONDS + self.other_seconds


def ok(name: str, found: str, *, subject: str = "") -> Check:
    """A finding that needs no action."""
    return Check(name, CheckResult.OK, found, None, subject)


def warning(name: str, found: str, remedy: str, *, subject: str = "") -> Check:
    """A finding that needs an action, but not now."""
    return Check(name, CheckResult.WARNING, found, remedy, subject)


def failed(
    name: str, found: str, remedy: str, *, subject: str = "", failure_kind: FailureKind = FailureKind.WRONG
) -> Check:
    """A finding that prevents the worker from working."""
    return Check(name, CheckResult.FAILED, found, remedy, subject, failure_kind)


def unchecked(name: str, found: str, remedy: str | None = None, *, subject: str = "") -> Check:
    """A check that was not possible; `remedy` says how to make it possible."""
    return Check(name, CheckResult.NOT_CHECKED, found, remedy, subject)


def most_urgent_failure(checks: Sequence[Check]) -> FailureKind | None:
    """The kind of failure to fix first; None if nothing failed."""
    kinds = {check.failure_kind for check in checks if check.result is CheckResult.FAILED}
    return next((kind for kind in FailureKind if kind in kinds), None)


def tls_words(error: ssl.SSLError) -> str:
    """An error of TLS in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate rejected: {error.verify_message}"
    return (error.reason or "handshake failed").replace("_", " ").lower()


def tls_remedy(error: ssl.SSLError, variable: str) -> str:
    """What helps against an error of TLS, by the error; `variable` has the address."""
    settings = "WORKER_AMQP" if "AMQP" in variable else "WORKER_DCS"
    if isinstance(error, ssl.SSLCertVerificationError):
        remedy = _REMEDIES_BY_CODE.get(error.verify_code, "replace the server's certificate, or one of its chain")
    elif error.reason in _NO_TLS_REASONS:
        remedy = "correct scheme and port in {variable}: what listens there does not speak TLS"
    elif settings == "WORKER_AMQP" and any(word in (error.reason or "") for word in ("CERTIFICATE", "UNKNOWN_CA")):
        remedy = "set WORKER_AMQP_CERT_FILE and WORKER_AMQP_KEY_FILE to a client certificate that the broker trusts"
    else:
        remedy = "compare the TLS versions and ciphers of both sides; the server's log says more"
    return remedy.format(variable=variable, settings=settings)


def check_version(product: str, version: str, subject: str) -> Check:
    """Check the broker's product and version, as its connection announces them."""
    name, product_version = "broker version", f"{product} {version}"
    match = _VERSION.match(version)
    number = (int(match[1]), int(match[2])) if match else (0, 0)
    if product != "RabbitMQ" or number > _NEWEST_KNOWN:
        remedy = "use RabbitMQ 3.10 to 4.3, or try every command of README.md against this broker first"
        return warning(name, f"{product_version}: not a broker that the worker is tested with", remedy, subject=subject)
    if number < _OLDEST_KNOWN:
        found = f"{product_version}: its quorum queues have neither message TTL nor at-least-once dead-lettering"
        return failed(name, found, "upgrade the broker to RabbitMQ 3.10 or newer", subject=subject)
    return ok(name, f"{product_version}: the worker is tested with 3.10 to 4.3", subject=subject)


def check_consumer_timeout(handling_time: HandlingTime) -> Check:
    """Check the longest handling time against the broker's default consumer timeout; AMQP does not tell the real one.

    Half of the timeout is left for what is not counted: further pages of a list, the wait queue of a throttled
    project, confirms that fail.
    """
    name, worst_case_seconds = "consumer_timeout", handling_time.worst_case_seconds
    found = (
        f"longest handling time of a request {worst_case_seconds:.0f} s "
        f"({handling_time.tries} tries of {CALLS_PER_TRY} calls, and all waits); assumes RabbitMQ's default "
        f"consumer_timeout of {DEFAULT_CONSUMER_TIMEOUT_SECONDS:.0f} s (`rabbitmqctl environment` shows the real one)"
    )
    enough = math.ceil(worst_case_seconds * 2 / 60) * 60_000
    remedy = f"lower WORKER_TRIES or WORKER_DCS_TIMEOUT, or set `consumer_timeout = {enough}` in rabbitmq.conf"
    if worst_case_seconds > DEFAULT_CONSUMER_TIMEOUT_SECONDS:
        return failed(name, found, remedy)
    if worst_case_seconds > DEFAULT_CONSUMER_TIMEOUT_SECONDS / 2:
        return warning(name, f"{found}, less than twice the handling time", remedy)
    return ok(name, found)

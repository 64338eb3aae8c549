"""Access of commands to the broker: nodes read from URLs, and errors as sentences for an operator."""

import ssl
from contextlib import AsyncExitStack

import pytest
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import (
    AMQPConnectionError,
    AuthenticationError,
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    DeliveryError,
    PublishError,
)
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from worker.policy.diagnostics import Problem
from worker.rabbit.connection import Brokers, ConnectionLostError
from worker.rabbit.failure_reasons import BrokerRefusedError
from worker.rabbit.tools import broker_access
from worker.rabbit.tools.broker_access import BrokerError, LoginRefused, Node, log_in, open_connection, refusal
from worker.tools.servers import free_port

SECRET = "hunter2"
RETURN = Basic.Return(312, "NO_ROUTE")
RETURNED = PublishError(DeliveredMessage(RETURN, ContentHeader(), b"", None), RETURN)  # type: ignore[arg-type]
NACKED = DeliveryError(None, None)  # type: ignore[arg-type]
URL = f"amqp://someone:{SECRET}@broker/team"


@pytest.mark.parametrize(
    ("url", "node"),
    [
        ("amqp://host", ("host", 5672, "guest", "/")),
        ("amqps://u:p@host/", ("host", 5671, "u", "/")),
        ("amqp://u%40x:p@host:1/%2Fv", ("host", 1, "u@x", "/v")),
        ("amqp://u:p@host//", ("host", 5672, "u", "/")),
        ("amqps://[::1]/v?heartbeat=30&auth=external", ("::1", 5671, None, "v")),
    ],
)
def test_node_of_a_url_has_the_defaults_of_the_client(url: str, node: tuple[object, ...]) -> None:
    """Defaults of port, user and vhost included."""
    found = Node.of(url)

    assert (found.host, found.port, found.user, found.vhost) == node
    assert "p" not in f"{found!r}".partition(":")[2]


async def login_problem(error: Exception, monkeypatch: pytest.MonkeyPatch, url: str = URL) -> Problem:
    """The result of a login whose connection fails with `error`."""

    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr(broker_access, "connected", failing)
    async with AsyncExitStack() as stack:
        login = await log_in(stack, Brokers((url,)), 0, "test", 5.0)
    assert isinstance(login, Problem)
    return login


@pytest.mark.parametrize(
    ("error", "found", "remedy"),
    [
        (
            BrokerRefusedError("NOT_ALLOWED - vhost team not found"),
            "vhost team not found",
            "rabbitmqctl add_vhost team",
        ),
        (BrokerRefusedError("NOT_ALLOWED - access to vhost refused"), "access to vhost", "list_permissions -p team"),
        (BrokerRefusedError("NOT_ALLOWED - connection limit (1) is reached"), "limit (1)", "list_vhost_limits"),
        (BrokerRefusedError("INTERNAL_ERROR - odd"), "INTERNAL_ERROR - odd", "the broker's log says more"),
        (TimeoutError(), "does not answer in time", "check_running"),
        (ConnectionLostError("stuck"), "does not answer in time", "check_running"),
        (ConnectionRefusedError(111, "Connect call failed ('1', 2)"), "cannot be reached: Connection refused", "host"),
        (ValueError("odd"), "it cannot be used: ValueError: odd", "amqps:// is 5671"),
    ],
)
async def test_failed_login_names_cause_and_remedy(
    error: Exception, found: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cause that an operator can remove has a sentence."""
    problem = await login_problem(error, monkeypatch)
    assert found in problem.found
    assert remedy in problem.remedy
    assert not isinstance(problem, LoginRefused)
    assert "set_permissions" not in problem.remedy  # no right is widened on a guess


async def test_tls_failure_behind_another_error_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiormq raises its own error from that of TLS."""
    error = AMQPConnectionError("closed")
    alert = ssl.SSLError("certificate required")
    alert.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    error.__cause__ = alert
    problem = await login_problem(error, monkeypatch)
    assert problem.found == "TLS: tlsv13 alert certificate required"
    assert "WORKER_AMQP_CERT_FILE" in problem.remedy


@pytest.mark.parametrize(
    ("url", "found", "remedy"),
    [
        (URL, "refuses the user 'someone' or its password", "authenticate_user someone"),
        ("amqp://broker", "refuses the user 'guest'", "guest may log in only from the broker's own machine"),
        ("amqps://broker/?auth=external", "refuses the client's certificate", "rabbitmq_auth_mechanism_ssl"),
    ],
)
async def test_refused_login_is_told_apart(url: str, found: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not tried at other nodes, and the password is in no sentence."""
    problem = await login_problem(AuthenticationError("no"), monkeypatch, url)
    assert isinstance(problem, LoginRefused)
    assert found in problem.found
    assert remedy in problem.remedy
    assert SECRET not in f"{problem}"


async def test_every_node_that_cannot_be_reached_has_a_line() -> None:
    """In the order of the setting, with host and port, without the password."""
    ports = free_port(), free_port()
    urls = tuple(f"amqp://someone:{SECRET}@127.0.0.1:{port}/" for port in ports)
    with pytest.raises(BrokerError) as unreachable:
        async with open_connection(Brokers(urls), "test"):
            pass
    lines = str(unreachable.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"Broker 127.0.0.1:{port}" for port in ports]
    assert lines[1].endswith("`dcs-worker doctor` finds out more.")
    assert SECRET not in str(unreachable.value)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RETURNED, "What is published to the queue 'q' reaches no queue: start a worker, or declare it"),
        (ChannelNotFoundEntity("404"), "The queue 'q' does not exist: start a worker, or declare it with"),
        (NACKED, "The broker refused a message for the queue 'q': a queue takes none at the moment. Remove the"),
        (
            ChannelAccessRefused("403"),
            "The broker does not let this user publish to the queue 'q': deploy/rabbitmq/README.md",
        ),
        (TimeoutError(), "The broker did not confirm a message within 30 s: a memory or disk alarm may be on; `dcs-"),
        (RuntimeError("closed"), "It was lost. (RuntimeError: closed)"),
    ],
)
def test_refusal_is_one_sentence(error: Exception, sentence: str) -> None:
    """What the broker refuses is said with what would help."""
    assert str(refusal(error, "publish to", "queue 'q'", "It was lost.")).startswith(sentence)

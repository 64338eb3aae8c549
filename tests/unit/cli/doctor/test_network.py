"""Reachability of addresses, DNS, TCP and TLS stages against misbehaving sockets, and the check of the HTTP port."""

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
import trustme

from tests.fakes.addresses import first_address_swallows
from worker.cli.doctor import network
from worker.cli.doctor.network import Address, check_port, find_problem
from worker.policy.diagnostics import CheckResult
from worker.tools.servers import free_port


@pytest.fixture(autouse=True)
def _short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "STAGE_TIMEOUT_SECONDS", 0.2)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """The port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _authority() -> tuple[trustme.CA, ssl.SSLContext]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return authority, context


@pytest.fixture
async def encrypted() -> AsyncIterator[tuple[int, trustme.CA]]:
    """The port of a TLS server with a certificate for localhost, and the CA that signed it."""
    authority, context = _authority()

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], authority


def _trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def _found(host: str, port: int, tls: ssl.SSLContext | None = None) -> str:
    problem = await find_problem(Address(host, port, "WORKER_AMQP_URL"), tls)
    return "" if problem is None else f"{problem.found} -> {problem.remedy}"


async def test_unknown_host_fails_at_dns() -> None:
    """The finding names the stage and the variable with the host."""
    found = await _found("nowhere.invalid", 5672)

    assert found.startswith("DNS: cannot resolve nowhere.invalid")
    assert "WORKER_AMQP_URL" in found


async def test_invalid_host_name_fails_at_dns() -> None:
    """A name that Python refuses to encode is a finding, not a crash."""
    assert (await _found("a" * 70 + ".example", 5672)).startswith("DNS: ")


async def test_address_that_swallows_packets_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker connects to the other address of the name, and so does the check."""
    monkeypatch.setattr(network, "STAGE_TIMEOUT_SECONDS", 2.0)

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with first_address_swallows(monkeypatch, port) as host:
            assert await _found(host, port) == ""


async def test_hanging_resolver_ends_with_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its late answer is ignored."""
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(10) and [])

    assert "no answer within 0.2 s" in await _found("slow.example", 5672)

    release.set()


async def test_closed_port_fails_at_tcp() -> None:
    """The finding has the error of the system, and the address only once."""
    port = free_port()

    assert (await _found("127.0.0.1", port)).startswith(
        f"TCP: cannot connect to 127.0.0.1:{port}: Connection refused ->"
    )


async def test_open_port_is_enough_without_tls(silent_port: int) -> None:
    """Nothing is sent on the connection."""
    assert await _found("127.0.0.1", silent_port) == ""


async def test_tls_handshake_without_answer_ends_with_the_timeout(silent_port: int) -> None:
    """A server without TLS may never answer."""
    found = await _found("127.0.0.1", silent_port, ssl.create_default_context())

    assert found.startswith(f"TLS: handshake with 127.0.0.1:{silent_port} failed: ")


async def test_certificate_of_unknown_ca_names_the_variable_of_the_ca_file(encrypted: tuple[int, trustme.CA]) -> None:
    """The remedy is the certificate file of the CA."""
    found = await _found("localhost", encrypted[0], ssl.create_default_context())

    assert found.startswith(f"TLS: handshake with localhost:{encrypted[0]} failed: certificate rejected: ")
    assert "-> set WORKER_AMQP_CA_FILE" in found


async def test_certificate_of_another_host_fails_with_mismatch(encrypted: tuple[int, trustme.CA]) -> None:
    """The remedy is a host name of the certificate, not another CA."""
    port, authority = encrypted
    found = await _found("127.0.0.1", port, _trusting(authority))

    assert "mismatch" in found
    assert "-> use a host name of the certificate" in found


async def test_valid_certificate_is_no_problem(encrypted: tuple[int, trustme.CA]) -> None:
    """CA and host name match."""
    port, authority = encrypted

    assert await _found("localhost", port, _trusting(authority)) == ""


async def test_free_port_is_ok_and_stays_free() -> None:
    """The check does not keep the port."""
    port = free_port()

    for _ in range(2):
        (check,) = await check_port("127.0.0.1", port)
        assert check.result is CheckResult.OK
    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_port_0_is_not_checked() -> None:
    """The system chooses a free port."""
    (check,) = await check_port("0.0.0.0", 0)
    assert check.result is CheckResult.NOT_CHECKED


async def test_port_in_use_by_another_program_fails() -> None:
    """The remedy shows how to find the program."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 404 Not Found\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        (check,) = await check_port("127.0.0.1", port)

    assert (check.result, check.found) == (CheckResult.FAILED, "cannot listen: Address already in use")
    assert f"sport = :{port}" in (check.remedy or "")


def _answering(page: object) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]:
    """A live worker with this content of /readyz."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_readyz = b"/readyz" in await reader.readuntil(b"\r\n\r\n")
        content = json.dumps(page if is_readyz else {"alive": True}).encode()
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\r\n" + content)
        writer.close()

    return answer


@pytest.mark.parametrize(
    ("page", "result"),
    [
        ({"status": "ok", "reason": "consuming"}, CheckResult.OK),
        ({"status": "starting", "reason": "no consumer yet"}, CheckResult.OK),
        ({"status": "draining", "reason": "SIGTERM"}, CheckResult.OK),
        ({"status": "degraded", "reason": "Redis is away"}, CheckResult.WARNING),
        ({"status": "paused", "reason": "the circuit breaker is open"}, CheckResult.WARNING),
        ({"status": "failing", "reason": "300 of 300 calls answered 404"}, CheckResult.FAILED),
        ({"status": "disconnected", "reason": "connection refused"}, CheckResult.FAILED),
        ({"ready": True, "reason": "consuming"}, CheckResult.OK),
        ({"ready": False, "reason": "not consuming yet"}, CheckResult.FAILED),
        (["another page"], CheckResult.FAILED),
    ],
)
async def test_port_in_use_by_a_worker_has_its_health(page: Any, result: CheckResult) -> None:
    """Status and reason are those of its page /readyz, which answers 503 for some; 0.1.0 had no status."""

    async with await asyncio.start_server(_answering(page), "127.0.0.1", 0) as server:
        (check,) = await check_port("127.0.0.1", server.sockets[0].getsockname()[1])

    assert (check.name, check.result) == ("live worker", result)
    assert (check.remedy is None) is (result is CheckResult.OK)
    if isinstance(page, dict):
        assert check.found == f"{page.get('status', 'unknown')}: {page['reason']}"


@pytest.mark.parametrize("page", [[], {}, {"regions": []}, {"regions": {"a": {}}}, {"status": "ok"}])
async def test_unknown_marker_is_no_finding(page: object) -> None:
    """Before the first created task, and of another program or version."""
    async with await asyncio.start_server(_answering(page), "127.0.0.1", 0) as server:
        checks = await check_port("127.0.0.1", server.sockets[0].getsockname()[1])
    assert [check.name for check in checks] == ["live worker"]


async def test_worker_on_the_port_says_whether_the_marker_is_kept() -> None:
    """By region; a lost one is a warning that says what to do."""
    page = {"regions": {"a": {"marker": "kept"}, "b": {"marker": "lost: 1 of 2 characters are listed"}, "c": {}}}
    async with await asyncio.start_server(_answering(page), "127.0.0.1", 0) as server:
        _, kept, lost = await check_port("127.0.0.1", server.sockets[0].getsockname()[1])
    assert (kept.name, kept.subject, kept.result, kept.remedy) == ("marker", "a", CheckResult.OK, None)
    assert (lost.name, lost.subject, lost.result) == ("marker", "b", CheckResult.WARNING)
    assert lost.found == page["regions"]["b"]["marker"]
    assert "shorter descriptions" in (lost.remedy or "")


async def test_address_of_another_machine_fails() -> None:
    """The remedy is another host, not another port."""
    (check,) = await check_port("192.0.2.1", free_port())

    assert check.result is CheckResult.FAILED
    assert "WORKER_HTTP_HOST" in (check.remedy or "")

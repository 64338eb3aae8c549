"""The way to an address, and the port of one's own, against sockets that misbehave."""

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
import trustme

from worker.cli.doctor import network
from worker.cli.doctor.http_port import check_port
from worker.cli.doctor.network import Address, find_problem
from worker.policy.diagnostics import CheckResult
from worker.tools.nodes import free_port


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "STAGE_TIMEOUT_SECONDS", 0.2)


@pytest.fixture
def mute() -> Iterator[int]:
    """The port of something that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _authority() -> tuple[trustme.CA, ssl.SSLContext]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return authority, context


@pytest.fixture
async def encrypted() -> AsyncIterator[tuple[int, trustme.CA]]:
    """The port of a TLS server called localhost, and who signed its certificate."""
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


async def test_a_name_that_does_not_exist_fails_at_dns() -> None:
    """The stage is named, and the variable that holds the name."""
    found = await _found("nowhere.invalid", 5672)

    assert found.startswith("DNS: the name nowhere.invalid cannot be resolved")
    assert "WORKER_AMQP_URL" in found


async def test_what_is_no_name_fails_at_dns() -> None:
    """A host that no resolver can even be asked for is no reason to crash."""
    assert (await _found("a" * 70 + ".example", 5672)).startswith("DNS: ")


async def test_a_resolver_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread is left behind after the deadline, and its late answer harms nobody."""
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(10) and [])

    assert "no answer within 0.2 s" in await _found("slow.example", 5672)

    release.set()


async def test_a_port_where_nobody_listens_fails_at_tcp() -> None:
    """The system's own words, without the address that stands before them."""
    port = free_port()

    assert (await _found("127.0.0.1", port)).startswith(
        f"TCP: no connection to 127.0.0.1:{port}: Connection refused ->"
    )


async def test_a_connection_is_all_that_is_needed_without_tls(mute: int) -> None:
    """Nothing is said on it: whoever speaks the protocol comes next."""
    assert await _found("127.0.0.1", mute) == ""


async def test_a_handshake_without_an_answer_has_an_end(mute: int) -> None:
    """A server that does not speak TLS may say nothing at all."""
    found = await _found("127.0.0.1", mute, ssl.create_default_context())

    assert found.startswith(f"TLS: 127.0.0.1:{mute} does not shake hands: ")


async def test_a_certificate_of_an_unknown_authority_names_the_setting(encrypted: tuple[int, trustme.CA]) -> None:
    """The remedy is the file of the authority."""
    found = await _found("localhost", encrypted[0], ssl.create_default_context())

    assert found.startswith(f"TLS: the certificate of localhost:{encrypted[0]} is not accepted")
    assert "-> set WORKER_AMQP_CA_FILE" in found


async def test_a_certificate_of_another_name_says_so(encrypted: tuple[int, trustme.CA]) -> None:
    """The remedy is the name in the certificate, not another authority."""
    port, authority = encrypted
    found = await _found("127.0.0.1", port, _trusting(authority))

    assert "mismatch" in found
    assert "-> use the name that stands in the certificate" in found


async def test_a_good_certificate_is_no_hurdle(encrypted: tuple[int, trustme.CA]) -> None:
    """With the right authority and the right name the way is free."""
    port, authority = encrypted

    assert await _found("localhost", port, _trusting(authority)) == ""


async def test_a_free_port_is_free_and_stays_so() -> None:
    """Whoever asks does not keep it."""
    port = free_port()

    for _ in range(2):
        assert (await check_port("127.0.0.1", port)).result is CheckResult.OK
    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_any_port_needs_no_check() -> None:
    """Port 0 takes what is free."""
    assert (await check_port("0.0.0.0", 0)).result is CheckResult.NOT_CHECKED


async def test_a_port_in_use_by_somebody_else_fails() -> None:
    """The remedy shows how to find out who has it."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 404 Not Found\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        check = await check_port("127.0.0.1", port)

    assert (check.result, check.found) == (CheckResult.FAILED, "cannot be had: Address already in use")
    assert f"sport = :{port}" in (check.remedy or "")


async def test_a_port_in_use_by_a_worker_is_well() -> None:
    """Beside a running worker its port is not free, as it should be."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + json.dumps({"alive": True}).encode()
        )
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        check = await check_port("127.0.0.1", server.sockets[0].getsockname()[1])

    assert check.result is CheckResult.OK


async def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    """The remedy is the host, not the port."""
    check = await check_port("192.0.2.1", free_port())

    assert check.result is CheckResult.FAILED
    assert "WORKER_HTTP_HOST" in (check.remedy or "")

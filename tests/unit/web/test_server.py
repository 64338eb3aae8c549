"""The HTTP server: health, metrics, the page, and what it refuses."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count

import pytest

from worker.policy.health import Health, HealthStatus
from worker.policy.status import Status
from worker.web.server import MAX_RENDERINGS_PER_SECOND, WebServer

METRICS = "# TYPE one counter\none_total 1.0\n"


@dataclass
class Worker:
    """What the server asks."""

    health: Health = field(default_factory=lambda: Health(HealthStatus.OK, "Consuming."))
    status: Status = field(default_factory=Status)
    accepts: list[str] = field(default_factory=list)

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """Fixed metrics; who asked for what is kept."""
        self.accepts.append(accept)
        return METRICS.encode(), "text/plain; version=0.0.4; charset=utf-8"


@pytest.fixture
def worker() -> Worker:
    """A worker that is ready."""
    return Worker()


@pytest.fixture
async def server(worker: Worker) -> AsyncIterator[WebServer]:
    """A server on a free port."""
    server = WebServer("127.0.0.1", 0, lambda: worker.health, worker.metrics, lambda: worker.status)
    await server.start()
    yield server
    await server.stop()


@dataclass
class Answer:
    """A reply as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> object:
        """The body as JSON."""
        assert self.headers["content-type"] == "application/json; charset=utf-8"
        return json.loads(self.body)


async def answer(server: WebServer, sent: bytes) -> Answer:
    """Send bytes, read the reply to its end."""
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            writer.write(sent)
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = b"" if sent.startswith(b"HEAD") else await reader.readexactly(int(headers["content-length"]))
            return Answer(int(first.split()[1]), headers, body)
        finally:
            writer.close()
            await writer.wait_closed()


async def get(server: WebServer, path: str, method: str = "GET", headers: str = "") -> Answer:
    """Ask for a page."""
    return await answer(server, f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())


async def test_liveness_ignores_broker(server: WebServer, worker: Worker) -> None:
    """Liveness does not depend on the broker: restarting the worker would not help."""
    worker.health = Health(HealthStatus.DISCONNECTED, "The broker does not answer.")
    reply = await get(server, "/livez")

    assert (reply.status, reply.content) == (200, {"alive": True})


async def test_health_is_json_with_reason_and_details(server: WebServer, worker: Worker) -> None:
    """Status, reason, every condition, and the details, which can be any values and overwrite nothing."""
    details = {"region": "cn-north-4", "status": "x", "reason": "", "since": {1}}
    worker.health = Health(HealthStatus.PAUSED, "DCS fails.", {"paused": "DCS fails.", "ok": "Consuming."}, details)
    reply = await get(server, "/readyz?verbose")

    assert reply.content == {
        "status": "paused",
        "reason": "DCS fails.",
        "conditions": {"paused": "DCS fails.", "ok": "Consuming."},
        "region": "cn-north-4",
        "since": "{1}",
    }


@pytest.mark.parametrize("status", HealthStatus)
async def test_only_a_worker_that_cannot_work_is_503(server: WebServer, worker: Worker, status: HealthStatus) -> None:
    """503 while it drains, starts, or has no broker; a failing worker would fail no less elsewhere."""
    worker.health = Health(status)
    expected = 503 if status in ("draining", "starting", "disconnected") else 200
    assert (await get(server, "/readyz")).status == expected


async def test_accept_header_reaches_metrics(server: WebServer, worker: Worker) -> None:
    """The Accept header is passed to the metrics; a missing one as empty."""
    reply = await get(server, "/metrics", headers="Accept: application/openmetrics-text\r\n")
    await get(server, "/metrics")

    assert (reply.status, reply.body.decode()) == (200, METRICS)
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert worker.accepts == ["application/openmetrics-text", ""]


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/metrics"])
async def test_head_is_get_without_the_body(server: WebServer, path: str) -> None:
    """Same status, type and length."""
    whole, head = await get(server, path), await get(server, path, "HEAD")

    assert head.status == whole.status == 200
    assert len(whole.body) == int(head.headers["content-length"]) > 0
    assert head.headers["content-type"] == whole.headers["content-type"]


@pytest.mark.parametrize("status", [HealthStatus.OK, HealthStatus.STARTING])
async def test_options_has_the_status_of_the_page(server: WebServer, worker: Worker, status: HealthStatus) -> None:
    """HAProxy checks health by OPTIONS: 405 would mean that the worker is down."""
    worker.health = Health(status)
    page, reply = await get(server, "/readyz"), await get(server, "/readyz", "OPTIONS")

    assert (reply.status, reply.body, reply.headers["allow"]) == (page.status, b"", "GET, HEAD, OPTIONS")


@pytest.mark.parametrize("has_ipv6", [True, False])
async def test_all_addresses_are_those_of_both_families(
    worker: Worker, has_ipv6: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe comes over IPv4 or IPv6, by what is the pod's first; without IPv6 in the system, over IPv4."""
    if not has_ipv6:
        monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    elif not socket.has_dualstack_ipv6():
        pytest.skip("this system has no IPv6")
    server = WebServer("::", 0, lambda: worker.health, worker.metrics, lambda: worker.status)
    await server.start()
    try:
        assert (await get(server, "/livez")).status == 200
        if has_ipv6:
            _, writer = await asyncio.open_connection("::1", server.port)
            writer.close()
            await writer.wait_closed()
        with pytest.raises(OSError, match="in use"):
            await WebServer("::", server.port, lambda: worker.health, worker.metrics, lambda: worker.status).start()
    finally:
        await server.stop()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
async def test_other_methods_are_405(server: WebServer, method: str) -> None:
    """Nothing can be changed: every other method is rejected."""
    reply = await get(server, "/metrics", method)

    assert (reply.status, reply.headers["allow"], reply.content) == (
        405,
        "GET, HEAD, OPTIONS",
        {"error": "only GET, HEAD, OPTIONS are allowed"},
    )


@pytest.mark.parametrize("path", ["/nothing", "/livez/", "/../etc/passwd", "/%2e%2e", "//livez", "/LIVEZ"])
async def test_unknown_path_is_404(server: WebServer, path: str) -> None:
    """404 as JSON, which does not repeat the path."""
    reply = await get(server, path)

    assert reply.status == 404
    assert reply.content == {"error": "not found", "pages": ["/", "/livez", "/readyz", "/metrics"]}


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"no http at all\r\n\r\n", 400),
        (b"GET http://x:99999999/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", 400),
        (b"GET /?" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ],
)
async def test_server_header_has_no_versions(
    server: WebServer, sent: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The header `Server` of a page is the product's name; errors in HTTP are aiohttp's replies, and not logged."""
    reply = await answer(server, sent)

    assert reply.status == status
    assert status == 400 or reply.headers["server"] == "dcs-migration-worker"
    assert b"aiohttp" not in reply.body
    assert not caplog.records


async def test_requests_are_not_logged(server: WebServer, caplog: pytest.LogCaptureFixture) -> None:
    """Probes and scrapes come every few seconds."""
    caplog.set_level(logging.DEBUG)
    await get(server, "/livez")
    await get(server, "/nothing")

    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []


async def test_defect_is_500_and_logged(server: WebServer, worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """500 without internals, one error in the log, and the next request is answered."""
    sound, worker.health = worker.health, None  # type: ignore[assignment]
    broken = await get(server, "/readyz")
    worker.health = sound

    assert broken.status == 500
    assert b"NoneType" not in broken.body
    assert broken.headers["server"] == "dcs-migration-worker"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert (await get(server, "/readyz")).status == 200


async def test_stop_does_not_wait_for_clients(server: WebServer) -> None:
    """Idle connections, half a request, or a body that never comes do not delay the stop."""
    waiting = []
    for sent in (
        b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nabc",
        b"GET /livez HTTP/1.1\r\nHos",
        b"",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        if b"\r\n\r\n" in sent:
            await reader.readuntil(b"\r\n\r\n")
        waiting.append((reader, writer))
    port = server.port
    began = time.monotonic()
    await server.stop()

    assert time.monotonic() - began < 0.9
    for reader, writer in waiting:
        async with asyncio.timeout(5):
            await reader.read()  # the end: every connection is closed
        writer.close()
        await writer.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_port_is_known_after_start() -> None:
    """The port is the configured one until the real one is known; a second stop does nothing."""
    worker = Worker()
    server = WebServer("127.0.0.1", 0, lambda: worker.health, worker.metrics, lambda: worker.status)
    assert (server.port, repr(server)) == (0, "<WebServer: 127.0.0.1 port 0, down>")
    await server.start()
    port = server.port
    assert port > 0
    assert repr(server) == f"<WebServer: 127.0.0.1 port {port}, up>"
    await server.stop()
    await server.stop()

    assert server.port == 0


async def test_port_in_use_fails_start(server: WebServer) -> None:
    """The start fails with the system's reason, and leaves nothing open."""
    worker = Worker()
    second = WebServer("127.0.0.1", server.port, lambda: worker.health, worker.metrics, lambda: worker.status)
    with pytest.raises(OSError, match="address already in use"):
        await second.start()

    assert repr(second).endswith("down>")
    await second.stop()


async def test_page_policy_allows_only_own_parts(server: WebServer) -> None:
    """The policy allows only the page's style and script, by hash; the page is not cached."""
    reply = await get(server, "/")
    policy = dict(part.split(" ", 1) for part in reply.headers["content-security-policy"].split("; "))

    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert (reply.headers["cache-control"], reply.headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert policy.pop("style-src").startswith("'sha256-")
    assert policy.pop("script-src").startswith("'sha256-")
    assert policy.pop("connect-src") == "'self'"
    assert policy.keys() == {"default-src", "base-uri", "form-action", "frame-ancestors"}
    assert set(policy.values()) == {"'none'"}


@pytest.fixture
async def flooded() -> AsyncIterator[WebServer]:
    """A server whose pages show the number of renderings, and whose clock shows a hundredth more for each request."""
    shown, renderings = count(), count(1)

    def health() -> Health:
        return Health(HealthStatus.OK, f"Rendering {next(renderings)}.")

    def metrics(_: str) -> tuple[bytes, str]:
        return health().reason.encode(), "text/plain"

    server = WebServer("127.0.0.1", 0, health, metrics, Status, lambda: next(shown) / 100)
    await server.start()
    yield server
    await server.stop()


@pytest.mark.parametrize("path", ["/metrics", "/"])
async def test_flood_is_answered_with_the_last_rendering(flooded: WebServer, path: str) -> None:
    """Each rendering takes the worker milliseconds. Health is always new."""
    answers = [await get(flooded, path) for _ in range(300)]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.headers["content-type"] for answer in answers}) == 1
    renderings = len({answer.body for answer in answers})
    assert renderings == pytest.approx(MAX_RENDERINGS_PER_SECOND * (1 + 3), abs=1)  # at once, and in three seconds
    assert answers[0].body != answers[1].body
    assert (await get(flooded, "/readyz")).body != (await get(flooded, "/readyz")).body

"""HTTP server of one replica: `/livez`, `/readyz`, `/metrics` and the status page at `/`; read-only."""

import json
import logging
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web

from worker.policy.health import Health
from worker.policy.status import Status
from worker.web.connections import BoundedConnection, BoundedServer
from worker.web.status_page import CONTENT_SECURITY_POLICY, render_page

SHUTDOWN_TIMEOUT_SECONDS: Final = 0.25
"""How long a stop waits for replies in progress; idle connections are closed at once."""
SERVER_HEADER: Final = "dcs-migration-worker"
"""The `Server` header of every page; without one aiohttp would send its version and Python's."""

MAX_RENDERINGS_PER_SECOND: Final = 20.0
"""Of metrics and status page together, and at once. Rendering takes milliseconds, in which no delivery goes on."""

ALLOWED: Final = "GET, HEAD, OPTIONS"


class WebServer:
    """Serves on `host` and `port` (0: any free port) from `start` to `stop`.

    `health` and `status` give what is shown. `metrics` is called with the Accept header (empty if there is none) and
    returns the body and its media type. Beyond MAX_RENDERINGS_PER_SECOND the last rendering is the answer.
    """

    def __init__(
        self,
        host: str,
        port: int,
        health: Callable[[], Health],
        metrics: Callable[[str], tuple[bytes, str]],
        status: Callable[[], Status],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._port = port
        self._health = health
        self._metrics = metrics
        self._status = status
        self._runner: web.ServerRunner | None = None
        self._rendered: dict[str, tuple[bytes, str]] = {}
        self._clock = clock
        self._renderings_left, self._counted_at = MAX_RENDERINGS_PER_SECOND, clock()
        self._handlers: Mapping[str, Callable[[web.BaseRequest], web.Response]] = {
            "/": self._status_page,
            "/livez": _livez,
            "/readyz": self._readyz,
            "/metrics": self._metrics_page,
        }

    def __repr__(self) -> str:
        return f"<WebServer: {self._host} port {self.port}, {'up' if self._runner else 'down'}>"

    @property
    def port(self) -> int:
        """The port; once started, the actual one."""
        if self._runner is None or not self._runner.addresses:
            return self._port
        return int(self._runner.addresses[0][1])

    async def start(self) -> None:
        """Start to serve. Raises OSError when the address is not available."""
        runner = web.ServerRunner(BoundedServer(self._handle), shutdown_timeout=SHUTDOWN_TIMEOUT_SECONDS)
        await runner.setup()
        try:
            if (host := listening_host(self._host)) == "::":
                both = socket.create_server((host, self._port), family=socket.AF_INET6, dualstack_ipv6=True)
                await web.SockSite(runner, both).start()
            else:
                await web.TCPSite(runner, host, self._port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner

    async def stop(self) -> None:
        """Close the port and all connections. Does nothing if not started."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        if isinstance(request.protocol, BoundedConnection):
            request.protocol.request_received()
        try:
            response = self._dispatch(request)
        except Exception:
            logging.getLogger(__name__).exception("the page %s failed", request.path)
            response = _json(500, {"error": "the page failed; see the log"})
        response.headers["Server"] = SERVER_HEADER
        return response

    def _dispatch(self, request: web.BaseRequest) -> web.Response:
        if (handler := self._handlers.get(request.path)) is None:
            return _json(404, {"error": "not found", "pages": list(self._handlers)})
        if request.method == "OPTIONS":  # how HAProxy checks health by default
            return web.Response(status=handler(request).status, headers={"Allow": ALLOWED})
        if request.method not in ("GET", "HEAD"):
            return _json(405, {"error": f"only {ALLOWED} are allowed"}, Allow=ALLOWED)
        return handler(request)

    def _render(self, request: web.BaseRequest, render: Callable[[], tuple[bytes, str]]) -> tuple[bytes, str]:
        """Body and media type; token bucket, so that a flood of requests costs little."""
        now = self._clock()
        earned = (now - self._counted_at) * MAX_RENDERINGS_PER_SECOND
        self._renderings_left = min(self._renderings_left + earned, MAX_RENDERINGS_PER_SECOND)
        self._counted_at = now
        if self._renderings_left >= 1 or request.path not in self._rendered:
            self._renderings_left -= 1
            self._rendered[request.path] = render()
        return self._rendered[request.path]

    def _status_page(self, request: web.BaseRequest) -> web.Response:
        body, media_type = self._render(
            request, lambda: (render_page(self._health(), self._status()).encode(), "text/html; charset=utf-8")
        )
        headers = {
            "Content-Type": media_type,
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }
        return web.Response(body=body, headers=headers)

    def _readyz(self, _: web.BaseRequest) -> web.Response:
        health = self._health()
        content = {"status": health.status, "reason": health.reason, "conditions": health.conditions}
        return _json(200 if health.status.is_ready else 503, {**content, **health.details, **content})

    def _metrics_page(self, request: web.BaseRequest) -> web.Response:
        accept = request.headers.get("Accept", "")
        body, media_type = self._render(request, lambda: self._metrics(accept))
        return web.Response(body=body, headers={"Content-Type": media_type})


def listening_host(host: str) -> str:
    """The address to listen on: `::` serves IPv4 as well, and a system without IPv6 has IPv4 alone."""
    return host if host != "::" or socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 - a pod's health


def _livez(_: web.BaseRequest) -> web.Response:
    return _json(200, {"alive": True})


def _json(status: int, content: Mapping[str, object], **headers: str) -> web.Response:
    headers = {"Cache-Control": "no-store", **headers}
    return web.Response(
        status=status, text=json.dumps(content, default=str), content_type="application/json", headers=headers
    )

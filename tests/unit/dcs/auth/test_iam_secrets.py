"""Nothing that proves who calls is logged, whatever the level."""

import io
import logging

import httpx2
import pytest

from tests.unit.dcs.raw_server import client_tls, http, serving
from worker.dcs.auth.iam import IamTokens
from worker.dcs.auth.iam_login import Account
from worker.dcs.http_client import HttpClient, new_request
from worker.dcs.transport import ServiceTransport
from worker.observe.logging import configure_logging
from worker.policy.freeze_detector import FreezeDetector

TOKEN, PASSWORD = "MIIsecret-token" * 6600, "secret-password"
"""A user with many roles has a token of any length: here one of 99 kB."""


@pytest.mark.parametrize("is_lowered", [False, True], ids=["worker's levels", "root lowered"])
async def test_login_at_debug_logs_no_token(caplog: pytest.LogCaptureFixture, is_lowered: bool) -> None:
    """httpcore2 logs the headers of answers at debug, X-Subject-Token among them, and httpx2 a line per call."""
    log = io.StringIO()
    configure_logging("debug", "json", log)
    if is_lowered:  # by whatever else sets levels in this process
        logging.getLogger().setLevel(logging.DEBUG)
    transport = ServiceTransport(client_tls(), 5)
    token = http(201, b"{}", b"X-Subject-Token: " + TOKEN.encode())
    async with serving(token, http(200, b"{}")) as iam:
        client = HttpClient(transport, deadline=5, freeze_detector=FreezeDetector(lambda: 0.0))
        tokens = IamTokens(Account(iam.url, "user", "domain"), lambda: PASSWORD, client)
        request = new_request("list", "GET", f"{iam.url}/v2/p/migration-tasks")
        assert await tokens.authorise(request, "p") is None
        assert request.headers["X-Auth-Token"] == TOKEN
        assert isinstance(await client.send(request), httpx2.Response)
        assert f"X-Auth-Token: {TOKEN}\r\n".encode() in iam.requests[1]
        logging.getLogger("httpx2").warning("heard")
        await tokens.aclose()
    await transport.aclose()
    assert "heard" in log.getvalue()
    for said in (log.getvalue(), caplog.text):
        assert TOKEN not in said
        assert PASSWORD not in said
        assert "HTTP Request" not in said

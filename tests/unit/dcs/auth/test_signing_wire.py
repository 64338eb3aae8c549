"""What arrives at the service is, byte for byte, what was signed."""

import ssl
from collections.abc import AsyncIterator
from urllib.parse import quote, urlsplit

import httpx2
import pytest
from aiohttp import web

from worker.dcs.auth.signing import Keys, canonical_url, put_signature
from worker.dcs.http_client import HttpClient, new_request
from worker.dcs.transport import ServiceTransport
from worker.policy.freeze_detector import FreezeDetector
from worker.tools.fake_dcs.authentication import is_signed_by, read_authorization

CHARACTERS = [*map(chr, range(0x180)), "\u2028", "\u20ac", "\U0001f600", "\U0010ffff"]


class Recorder:
    """A server that keeps what it received."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        """Keep a request."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append((request.raw_path, headers, await request.read()))
        return web.Response()


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    """A recorder on a free port."""
    taken = Recorder()
    app = web.Application()
    app.router.add_route("*", "/{tail:(?s:.*)}", taken.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    taken.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield taken
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    """The worker's client."""
    transport = ServiceTransport(ssl.create_default_context(), 5)
    yield HttpClient(transport, deadline=5, freeze_detector=FreezeDetector(lambda: 0.0))
    await transport.aclose()


async def test_every_character_arrives_as_it_was_signed(recorder: Recorder, http: HttpClient) -> None:
    """Whatever the name of a task has in it, path and query arrive encoded as in the signature, which holds."""
    for character in CHARACTERS:
        encoded = quote(character, safe="")
        path, name = f"/v2/p/x{encoded}y", f"a{encoded}b"
        url = canonical_url(f"{recorder.url}{path}?offset=0&name={name}&limit=200")
        request = new_request("list", "GET", url)

        put_signature(request, "p", Keys("AK", "SK"), 1_700_000_000.0)
        assert isinstance(await http.send(request), httpx2.Response)

        target, headers, body = recorder.received.pop()
        assert target == f"{path}?limit=200&name={name}&offset=0"
        assert request.url.raw_path == target.encode()
        if character != "/":  # the SDK, and so we, sign an encoded slash as a slash; the verifier does not
            assert is_signed_by("SK", read_authorization(headers["authorization"]), "GET", target, headers, body)


async def test_host_and_headers_arrive_as_they_were_signed(recorder: Recorder, http: HttpClient) -> None:
    """Host with its port, content type, project, date, token and body are what the signature covers."""
    url = recorder.url.replace("127.0.0.1", "LOCALHOST")
    headers = {"Content-Type": "application/json"}
    request = new_request("create", "POST", f"{url}/v2/p/x", headers, "{é}".encode())

    put_signature(request, "p", Keys("AK", "SK", "STS"), 1_700_000_000.0)
    await http.send(request)

    target, received, body = recorder.received.pop()
    authorization = read_authorization(received["authorization"])
    assert authorization.signed == ("content-type", "host", "x-project-id", "x-sdk-date", "x-security-token")
    assert received["host"] == recorder.url.replace("http://127.0.0.1", "localhost")
    assert is_signed_by("SK", authorization, "POST", target, received, body)


@pytest.mark.parametrize("path", ["/v2/p/../x", "/v2/p/.", "/v2//x", "/v2/p/x?name=..%2F..&a", "/v2/p/x?"])
async def test_what_httpx_rewrites_is_signed_as_it_is_sent(recorder: Recorder, http: HttpClient, path: str) -> None:
    """httpx2 takes dots out of a path: the signature is made after that."""
    request = new_request("list", "GET", f"{recorder.url}{path}")
    put_signature(request, "p", Keys("AK", "SK"), 1_700_000_000.0)
    await http.send(request)

    target, headers, body = recorder.received.pop()
    assert is_signed_by("SK", read_authorization(headers["authorization"]), "GET", target, headers, body)


@pytest.mark.parametrize(
    ("url", "as_sent"),
    [
        ("https://h", "https://h"),
        ("https://h/", "https://h/"),
        ("https://h:8443/a:b?x", "https://h:8443/a%3Ab?x="),
        ("http://[::1]:80/a%7Eb?b=%3a&a=/", "http://[::1]:80/a~b?a=%2F&b=%3A"),
    ],
)
def test_a_url_is_rewritten_once(url: str, as_sent: str) -> None:
    """Scheme, host and port stay; path and query get the encoding of the signature, and keep it, also in httpx2."""
    assert canonical_url(url) == as_sent
    assert canonical_url(as_sent) == as_sent
    assert as_sent.endswith(httpx2.URL(as_sent).raw_path.decode()) or urlsplit(as_sent).path == ""

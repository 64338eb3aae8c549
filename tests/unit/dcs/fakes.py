"""Fakes of IAM and of the metadata service below the worker's HTTP client."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from json import dumps, loads

import httpx2

from tests.fakes.clock import FakeClock
from worker.dcs.auth.cached_credential import Timing
from worker.dcs.http_client import HttpClient
from worker.policy.freeze_detector import FreezeDetector

START = 1_700_000_000.0


def timing_of(clock: FakeClock, random_unit: float = 0.0) -> Timing:
    """Time by a clock, and chance that always gives the same."""
    return Timing(clock, lambda: random_unit, clock.sleep)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0)


def stamp(epoch: float) -> str:
    """A moment as the services write it."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def reply(
    status: int,
    *,
    json: object = None,
    text: str = "",
    content: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> httpx2.Response:
    """An answer of a service."""
    body = dumps(json).encode() if json is not None else text.encode() or content
    return httpx2.Response(status, headers=headers, content=body)


Handler = (
    Callable[[httpx2.Request], httpx2.Response] | Callable[[httpx2.Request], Coroutine[None, None, httpx2.Response]]
)


def a_client(handler: Handler, deadline: float = 5.0) -> HttpClient:
    """The worker's HTTP client over a fake service."""
    return HttpClient(httpx2.MockTransport(handler), deadline=deadline, freeze_detector=FreezeDetector(lambda: 0.0))


class FakeIam:
    """Issues tokens for the right password, and counts who asks."""

    def __init__(self, clock: FakeClock, password: str = "right") -> None:
        self.clock = clock
        self.password = password
        self.life = 86_400.0
        self.ahead = 0.0
        """How far its own clock is ahead."""
        self.strangers: set[str] = set()
        """Projects that it gives no token for."""
        self.outage: httpx2.Response | Exception | None = None
        self.held = False
        """Answers wait while it is set."""
        self.asked: list[tuple[str, str]] = []
        """Project and password of every call."""
        self.most_at_once = 0
        self._at_once = 0

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one token call."""
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await self._answer(request)
        finally:
            self._at_once -= 1

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        assert (request.method, request.url.raw_path) == ("POST", b"/v3/auth/tokens?nocatalog=true")
        auth = loads(request.content)["auth"]
        user, project = auth["identity"]["password"]["user"], auth["scope"]["project"]["id"]
        assert (user["name"], user["domain"]) == ("user", {"name": "domain"})
        self.asked.append((project, user["password"]))
        await asyncio.sleep(0)
        await until(lambda: not self.held)
        if isinstance(self.outage, Exception):
            raise self.outage
        if self.outage is not None:
            return self.outage
        if user["password"] != self.password or project in self.strangers:
            error = {"code": 401, "title": "Unauthorized", "message": f"not {user['password']}"}
            return reply(401, json={"error": error})
        issued = self.clock() + self.ahead
        token = {"issued_at": stamp(issued), "expires_at": stamp(issued + self.life)}
        headers = {"X-Subject-Token": f"token-{project}-{len(self.asked)}"}
        return reply(201, json={"token": token}, headers=headers)


class FakeMetadata:
    """Gives out temporary keys to whoever shows the token that it gave out before."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.life = 86_400.0
        self.is_fixed = False
        """The keys stay the same, whenever it is asked."""
        self.token_status = 200
        self.key_reply: httpx2.Response | None = None
        self.held = False
        """Answers wait while it is set."""
        self.asked: list[str] = []
        """Method and path of every call."""
        self.given = 0
        self._until = 0.0

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one call."""
        self.asked.append(f"{request.method} {request.url}")
        await asyncio.sleep(0)
        await until(lambda: not self.held)
        if request.method == "PUT":
            assert request.url.path == "/meta-data/latest/api/token"
            assert 1 <= int(request.headers["X-Metadata-Token-Ttl-Seconds"]) <= 21_600
            return reply(self.token_status, text="metadata-token\n")
        assert request.url.path == "/openstack/latest/securitykey"
        if self.key_reply is not None:
            return self.key_reply
        if request.headers.get("X-Metadata-Token") != ("metadata-token" if self.token_status == 200 else None):
            return reply(401, text="wrong token")
        if not self.is_fixed or not self.given:
            self.given += 1
            self._until = self.clock() + self.life
        names = ("access", "secret", "securitytoken")
        keys = {name: f"{name.upper()}{self.given}" for name in names}
        return reply(200, json={"credential": {**keys, "expires_at": stamp(self._until)}})

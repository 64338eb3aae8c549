"""An IAM and a metadata service of one's own below the worker's exchange, and a clock that moves when told."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime

import httpx

from worker.dcs.exchange import Exchange
from worker.dcs.lease import Timing
from worker.policy.pulse import Pulse

START = 1_700_000_000.0


class Clock:
    """Epoch seconds that stand still until told; sleepers wake when their time has come."""

    def __init__(self) -> None:
        self.now = START
        self._moved = asyncio.Event()

    def __call__(self) -> float:
        """The time."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of this clock."""
        until = self.now + seconds
        while self.now < until:
            await self._moved.wait()

    async def advance(self, seconds: float) -> None:
        """Move on, and let whoever waited for it work."""
        self.now += seconds
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        await settle()

    def timing(self, chance: float = 0.0) -> Timing:
        """Time by this clock, and chance that always says the same."""
        return Timing(self, lambda: chance, self.sleep)


async def settle() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(50):
        await asyncio.sleep(0)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0)


def stamp(epoch: float) -> str:
    """A moment as the services write it."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def an_exchange(transport: httpx.AsyncBaseTransport, deadline: float = 5.0) -> Exchange:
    """The worker's exchange over a fake."""
    return Exchange(transport, deadline=deadline, told=lambda *_: None, pulse=Pulse(lambda: 0.0))


class FakeIam(httpx.AsyncBaseTransport):
    """Issues tokens for the right password, and counts who asks."""

    def __init__(self, clock: Clock, password: str = "right") -> None:
        self.clock = clock
        self.password = password
        self.life = 86_400.0
        self.ahead = 0.0
        """How far its own clock is ahead."""
        self.strangers: set[str] = set()
        """Projects that it gives no token for."""
        self.outage: httpx.Response | Exception | None = None
        self.sound_calls = 1_000_000
        """So many calls are answered before the outage begins."""
        self.held = False
        """Answers wait while it is set."""
        self.asked: list[tuple[str, str]] = []
        """Project and password of every call."""
        self.most_at_once = 0
        self._at_once = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one token call."""
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await self._answer(request)
        finally:
            self._at_once -= 1

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path, request.url.query) == ("POST", "/v3/auth/tokens", b"nocatalog=true")
        auth = json.loads(request.content)["auth"]
        user, project = auth["identity"]["password"]["user"], auth["scope"]["project"]["id"]
        assert (user["name"], user["domain"]) == ("user", {"name": "domain"})
        self.asked.append((project, user["password"]))
        await asyncio.sleep(0)
        await until(lambda: not self.held)
        self.sound_calls -= 1
        if isinstance(self.outage, Exception):
            raise self.outage
        if self.outage is not None:
            return self.outage
        if self.sound_calls < 0:
            return httpx.Response(503)
        if user["password"] != self.password or project in self.strangers:
            error = {"code": 401, "title": "Unauthorized", "message": f"not {user['password']}"}
            return httpx.Response(401, json={"error": error})
        issued = self.clock() + self.ahead
        token = {"issued_at": stamp(issued), "expires_at": stamp(issued + self.life)}
        headers = {"X-Subject-Token": f"token-{project}-{len(self.asked)}"}
        return httpx.Response(201, json={"token": token}, headers=headers)


class FakeMetadata(httpx.AsyncBaseTransport):
    """Gives out temporary keys to whoever shows the token that it gave out before."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.life = 86_400.0
        self.is_fixed = False
        """The keys stay the same, whenever it is asked."""
        self.token_status = 200
        self.key_reply: httpx.Response | None = None
        self.held = False
        """Answers wait while it is set."""
        self.asked: list[str] = []
        """Method and path of every call."""
        self.given = 0
        self._until = 0.0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one call."""
        self.asked.append(f"{request.method} {request.url}")
        await asyncio.sleep(0)
        await until(lambda: not self.held)
        if request.method == "PUT":
            assert request.url.path == "/meta-data/latest/api/token"
            assert 1 <= int(request.headers["X-Metadata-Token-Ttl-Seconds"]) <= 21_600
            return httpx.Response(self.token_status, text="metadata-token\n")
        assert request.url.path == "/openstack/latest/securitykey"
        if self.key_reply is not None:
            return self.key_reply
        if request.headers.get("X-Metadata-Token") != ("metadata-token" if self.token_status == 200 else None):
            return httpx.Response(401, text="wrong token")
        if not self.is_fixed or not self.given:
            self.given += 1
            self._until = self.clock() + self.life
        names = ("access", "secret", "securitytoken")
        keys = {name: f"{name.upper()}{self.given}" for name in names}
        return httpx.Response(200, json={"credential": {**keys, "expires_at": stamp(self._until)}})

"""Credentials by access key: every request is signed, afresh at every try."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import httpx2

from worker.dcs.auth.signing import Keys, sign
from worker.dcs.clock import wrong_clock
from worker.policy.call_result import CallError

_COVERED: Final = ("host", "content-type", "x-project-id")


def put_signature(request: httpx2.Request, project_id: str, keys: Keys, now: float) -> None:
    """Sign `request` for a call in a project. `now`: epoch seconds."""
    request.headers["X-Project-Id"] = project_id
    request.headers.pop("X-Security-Token", None)
    request.headers.update(_signature(request, keys, now))


def is_signed_with(request: httpx2.Request, keys: Keys) -> bool:
    """Whether `keys` would have signed the request as it is signed."""
    moment = datetime.strptime(request.headers["X-Sdk-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    again = _signature(request, keys, moment.timestamp())
    return again["Authorization"] == request.headers["Authorization"]


def _signature(request: httpx2.Request, keys: Keys, now: float) -> dict[str, str]:
    covered = {name: request.headers[name] for name in _COVERED if name in request.headers}
    # What is signed is what is sent, byte for byte: httpx2 has the last word on how a URL is written.
    return sign(request.method, str(request.url), covered, request.content, keys, now)


class KeySigner:
    """Signs with keys that are asked for at every call, since they may be replaced."""

    def __init__(self, keys: Callable[[], Keys], *, now: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._now = now

    def __repr__(self) -> str:
        return "<KeySigner>"

    async def authorise(self, request: httpx2.Request, project_id: str) -> CallError | None:
        """Sign `request`."""
        put_signature(request, project_id, self._keys(), self._now())
        return None

    async def renew(self, project_id: str, refused: httpx2.Request) -> bool:
        """Other keys can be tried if they were replaced since."""
        return not is_signed_with(refused, self._keys())

    def explain(self, refusal: Mapping[str, str]) -> str | None:
        """A wrong clock makes every signature invalid."""
        return wrong_clock(refusal.get("date"), self._now())

    async def aclose(self) -> None:
        """Nothing runs."""

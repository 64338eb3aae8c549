"""How a call proves who makes it."""

from collections.abc import Callable, Mapping
from typing import Protocol

import httpx2

from worker.policy.call_result import CallError


class Credentials(Protocol):
    """Proof of identity for calls in a project."""

    async def authorise(self, request: httpx2.Request, project_id: str) -> CallError | None:
        """Put the proof on `request`; a fault if there is none to be had now."""

    async def renew(self, project_id: str, refused: httpx2.Request) -> bool:
        """The service refused the proof on `refused`: whether it is worth while to authorise and send once more."""

    def explain(self, refusal: Mapping[str, str]) -> str | None:
        """Why the service refused the proof, as far as the headers of its 401 tell; one sentence."""

    async def aclose(self) -> None:
        """End what runs in the background."""


class ReadyToken:
    """A token that somebody else obtained, sent as it is; asked for at every call, since it may be replaced."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def __repr__(self) -> str:
        return "<ReadyToken>"

    async def authorise(self, request: httpx2.Request, project_id: str) -> CallError | None:
        """Put the token on `request`."""
        request.headers["X-Auth-Token"] = self._token()
        return None

    async def renew(self, project_id: str, refused: httpx2.Request) -> bool:
        """Another token can be tried if it was replaced since."""
        return self._token() != refused.headers.get("X-Auth-Token")

    def explain(self, refusal: Mapping[str, str]) -> str | None:
        """A token needs no explanation."""
        return None

    async def aclose(self) -> None:
        """Nothing runs."""

"""The interface of an authentication method, and how a call of httpx2 uses one.

https://www.python-httpx.org/advanced/authentication/#custom-authentication-schemes
"""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Final, Protocol

import httpx2

from worker.dcs.http_client import CallFailedError
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence

MASK: Final = b"***"
SHORTEST: Final = 8
"""Characters of a proof that is looked for: shorter ones, which only tests have, are words of the reply itself."""
_TOKENS: Final = ("X-Auth-Token", "X-Security-Token")
_SIGNED: Final = re.compile(r"(?:Access|Signature)=([^,\s]+)")


class Credentials(Protocol):
    """Proof of identity for calls in a project."""

    async def authorise(self, request: httpx2.Request, project_id: str) -> CallError | None:
        """Put the proof on `request`; a fault if there is none to be had now."""
        ...

    async def renew(self, project_id: str, refused: httpx2.Request) -> bool:
        """The service refused the proof on `refused`: whether it is worth while to authorise and send once more."""
        ...

    def explain(self, refusal: Mapping[str, str]) -> str | None:
        """Why the service refused the proof, as far as the headers of its 401 tell; one sentence."""
        ...

    async def aclose(self) -> None:
        """End what runs in the background."""
        ...


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


class CallAuth(httpx2.Auth):
    """Puts credentials on a request, and renews them once if the service refuses them.

    Each time, `is_still_allowed` is asked when all else is ready, right before the request is sent.
    """

    def __init__(
        self,
        credentials: Credentials,
        project_id: str,
        is_still_allowed: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._credentials = credentials
        self._project_id = project_id
        self._is_still_allowed = is_still_allowed

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Raises CallFailedError, and nothing is sent, if there are no credentials or the call is not allowed."""
        await self._make_ready(request)
        answer = yield request
        if answer.status_code == 401 and await self._credentials.renew(self._project_id, request):
            await self._make_ready(request)
            yield request

    async def _make_ready(self, request: httpx2.Request) -> None:
        fault = await self._credentials.authorise(request, self._project_id)
        if fault is not None:
            raise CallFailedError(fault)
        if self._is_still_allowed is not None and not await self._is_still_allowed():
            why = "it came too late to be sent"
            raise CallFailedError(CallError(Evidence.NEVER_SENT, ErrorKind.RETRY, CallStatus.STALE, why))


def without_credentials(answer: httpx2.Response) -> bytes:
    """The body of a refusal, without what authenticated its request: the service's words end in events and logs."""
    headers, body = answer.request.headers, answer.content
    tokens = [headers[name] for name in _TOKENS if name in headers]
    signed = _SIGNED.findall(headers.get("Authorization", ""))
    for proof in (proof for proof in (*tokens, *signed) if len(proof) >= SHORTEST):
        for form in {proof, proof.replace("/", "\\/")}:  # as it is, and as some writers of JSON write it
            body = body.replace(form.encode(), MASK)
    return body

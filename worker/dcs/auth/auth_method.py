"""The interface of an authentication method, and how a call of httpx2 uses one.

https://www.python-httpx.org/advanced/authentication/#custom-authentication-schemes
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

import httpx2
from pydantic import SecretStr

from worker.dcs.http_client import CallFailedError
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence

Secrets = Mapping[str, SecretStr]
"""The secrets that are valid together at one moment, by the names of their settings; without those not configured."""


class AuthMethod(ABC):
    """Authenticates calls in a project."""

    @abstractmethod
    async def authorise(self, request: httpx2.Request, project_id: str) -> CallError | None:
        """Put the credential on `request`; an error if there is none now."""

    @abstractmethod
    async def renew(self, project_id: str, refused: httpx2.Request) -> bool:
        """The service refused the credential on `refused`: whether to authorise and send once more."""

    def explain(self, clock_skew: float | None) -> str | None:
        """Why the service refused the credential, if a clock that is so many seconds ahead explains it."""
        return None

    async def aclose(self) -> None:  # noqa: B027 - not every method has something to close
        """End what runs in the background."""


class ReadyToken(AuthMethod):
    """A token from elsewhere, sent as it is; `token` is asked at every call, since it may be replaced."""

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


class CallAuth(httpx2.Auth):
    """httpx2 authentication of one call: one renewal if the service answers 401.

    Each time, `is_still_allowed` is asked when all else is ready, right before the request is sent.
    """

    def __init__(
        self,
        method: AuthMethod,
        project_id: str,
        is_still_allowed: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._method = method
        self._project_id = project_id
        self._is_still_allowed = is_still_allowed

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Raises CallFailedError, and nothing is sent, if there is no credential or the call is not allowed."""
        await self._make_ready(request)
        answer = yield request
        if answer.status_code == 401 and await self._method.renew(self._project_id, request):
            await self._make_ready(request)
            yield request

    async def _make_ready(self, request: httpx2.Request) -> None:
        error = await self._method.authorise(request, self._project_id)
        if error is not None:
            raise CallFailedError(error)
        if self._is_still_allowed is not None and not await self._is_still_allowed():
            why = "it came too late to be sent"
            raise CallFailedError(CallError(Evidence.NEVER_SENT, ErrorKind.RETRY, CallStatus.STALE, why))


def secret_text(current: Callable[[], Secrets], name: str) -> Callable[[], str]:
    """A function that gives the present text of a secret."""
    return lambda: text_of(current(), name)


def text_of(secrets: Secrets, name: str) -> str:
    """The text of a secret that its method cannot do without."""
    assert name in secrets, "the configuration lets no worker start without the secrets of its method"
    return secrets[name].get_secret_value()

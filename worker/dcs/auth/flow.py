"""Authentication of one call, as httpx2 wants it: each request that is yielded is sent.

https://www.python-httpx.org/advanced/authentication/#custom-authentication-schemes
"""

from collections.abc import AsyncGenerator, Awaitable, Callable

import httpx2

from worker.dcs.auth.credentials import Credentials
from worker.dcs.http_client import CallFailedError
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence


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

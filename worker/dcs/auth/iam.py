"""Authentication by password: project-scoped tokens of IAM, one for each project.

All token calls go one after the other. They are rare (one per project and day), IAM throttles at a few per second,
and a password that has just become wrong must not be tried by many calls at once.

IAM does not reliably say whether it refuses the user, the password or the project. So that one request for a project
that does not exist stops no other, a project that never had a token is blamed first where others had one, and the
password when another project is refused as well. Without any token yet the password is blamed at once.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import httpx2

from worker.dcs.auth.auth_method import AuthMethod
from worker.dcs.auth.cached_credential import CachedCredential, Credential, FetchBackoff, Timing, no_credential
from worker.dcs.auth.iam_login import Account, PasswordLockout, TokenRefused, log_in
from worker.dcs.http_client import HttpClient
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence

IAM_TIMEOUT_SECONDS: Final = 10.0
"""For one token call."""
RENEWAL_SHARE: Final = 0.1
"""A token is renewed at a random point of this last share of its life."""
DENIED_PROJECT_SECONDS: Final = 300.0
"""How long IAM is not asked again for a project that it denies to the user."""
MAX_PROJECTS: Final = 1000
"""Projects that are remembered; beyond, the least recently used is forgotten."""

T = TypeVar("T")


class IamTokens(AuthMethod):
    """Gets, keeps and renews tokens; `password` gives the present one, which may change at any time."""

    def __init__(
        self,
        account: Account,
        password: Callable[[], str],
        http: HttpClient,
        timing: Timing | None = None,
    ) -> None:
        self._account = account
        self._password = password
        self._http = http
        self._timing = timing or Timing()
        self._tokens: OrderedDict[str, CachedCredential[str]] = OrderedDict()
        self._one_call_at_a_time = asyncio.Lock()
        self._granted: OrderedDict[str, None] = OrderedDict()
        """Projects that IAM gave tokens for, the last one last."""
        self._denied: OrderedDict[str, tuple[float, CallError]] = OrderedDict()
        self._blamed: str | None = None
        """The project that alone is blamed for all refusals since the last token."""
        self._lockout = PasswordLockout(self._timing.random_unit)
        self._backoff = FetchBackoff(self._timing)
        self._refusal = ""
        """Why IAM gives no token for any project; empty while it does."""

    def __repr__(self) -> str:
        return f"<IamTokens of {len(self._tokens)} projects, {self._refusal or 'not refused'}>"

    async def authorise(self, request: httpx2.Request, project_id: str) -> CallError | None:
        """Put the project's token on `request`."""
        token = await self._token(project_id).get()
        if isinstance(token, CallError):
            return token
        request.headers["X-Auth-Token"] = token
        return None

    async def renew(self, project_id: str, refused: httpx2.Request) -> bool:
        """Another token can be tried, unless the refused one was itself fetched because of a refusal just now."""
        return self._token(project_id).drop(refused.headers.get("X-Auth-Token", ""))

    async def aclose(self) -> None:
        """End the token calls under way."""
        await asyncio.gather(*(token.aclose() for token in self._tokens.values()))

    def _token(self, project_id: str) -> CachedCredential[str]:
        token = self._tokens.get(project_id)
        if token is None:
            idle = (known for known, cached in self._tokens.items() if not cached.is_fetching)
            if len(self._tokens) >= MAX_PROJECTS and (oldest := next(idle, None)) is not None:
                del self._tokens[oldest]
            fetch = partial(self._fetch, project_id)
            token = self._tokens[project_id] = CachedCredential(CallStatus.IAM_UNAVAILABLE, fetch, self._timing.now)
        self._tokens.move_to_end(project_id)
        return token

    async def _fetch(self, project_id: str) -> Credential[str] | CallError:
        async with self._one_call_at_a_time:
            return self._reason_to_wait(project_id) or await self._log_in(project_id)

    def _reason_to_wait(self, project_id: str) -> CallError | None:
        now = self._timing.now()
        denied_until, denial = self._denied.get(project_id, (now, None))
        if now < denied_until:
            return denial
        if wait := self._lockout.wait(self._password(), now):
            return no_credential(CallStatus.NO_CREDENTIALS, self._refusal, wait)
        return self._backoff.active_error()

    async def _log_in(self, project_id: str) -> Credential[str] | CallError:
        password, asked_at = self._password(), self._timing.now()
        result = await log_in(self._http, self._account, password, project_id, asked_at)
        if isinstance(result, CallError):
            return self._backoff.failed(result)
        self._backoff.worked()
        if isinstance(result, TokenRefused):
            if self._is_project_at_fault(project_id):
                return self._deny(project_id, result)
            return self._pause(password, result)
        _put_last(self._granted, project_id, None)
        self._blamed = None
        self._lockout.accepted()
        self._refusal = ""
        until = asked_at + result.seconds
        return Credential(result.token, until - result.seconds * RENEWAL_SHARE * self._timing.random_unit(), until)

    def _is_project_at_fault(self, project_id: str) -> bool:
        """Whether a refusal concerns the project: it never had a token, others had, and no other was refused since."""
        if self._lockout.refusals or not self._granted or project_id in self._granted:
            return False
        return self._blamed in {None, project_id}

    def _deny(self, project_id: str, refused: TokenRefused) -> CallError:
        error = CallError(
            Evidence.NEVER_SENT,
            ErrorKind.UNAUTHENTICATED,
            CallStatus.NO_CREDENTIALS,
            f"IAM gives {self._account.user} no token for project {project_id}: {refused.reason}",
            http_status=refused.status,
        )
        self._blamed = project_id
        _put_last(self._denied, project_id, (self._timing.now() + DENIED_PROJECT_SECONDS, error))
        return error

    def _pause(self, password: str, refused: TokenRefused) -> CallError:
        self._lockout.refused(password, self._timing.now())
        self._refusal = f"IAM refuses the password of {self._account.user} (HTTP {refused.status}: {refused.reason})"
        # The password may have been replaced meanwhile: then there is nothing to wait for.
        wait = self._lockout.wait(self._password(), self._timing.now())
        return no_credential(CallStatus.NO_CREDENTIALS, self._refusal, wait)


def _put_last(known: OrderedDict[str, T], project_id: str, value: T) -> None:
    known[project_id] = value
    known.move_to_end(project_id)
    if len(known) > MAX_PROJECTS:
        known.popitem(last=False)

"""Asks IAM for tokens, without ever hammering it.

All token calls go one after the other. They are rare (one per project and day), IAM throttles at a few per second,
and a password that has just become wrong must not be tried by many calls at once.

IAM does not reliably say whether it refuses the user, the password or the project. So that one request for a project
that does not exist stops no other, a first refusal is checked with another project before the password is blamed.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from worker.dcs.auth.lease import Backoff, Lease, Timing, unproved
from worker.dcs.auth.lockout import Lockout
from worker.dcs.auth.token_call import Account, Refusal, ask_iam
from worker.dcs.http_client import HttpClient
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence

RENEWED: Final = 0.1
"""A token is renewed at a random point of this last share of its life."""
DENIED: Final = 300.0
"""Seconds for which IAM is not asked again for a project that it denies to the user."""
_DENIED_PROJECTS: Final = 1000

Changed = Callable[[str | None], None]
"""Is told why no call can be authorised any more; None: that it is worth a try again."""
Keep = Callable[[str, Lease[str]], None]
"""Takes a token of a project that nobody waits for."""


class TokenIssuer:
    """Brings tokens; `password` gives the present one."""

    def __init__(
        self,
        account: Account,
        password: Callable[[], str],
        http: HttpClient,
        keep: Keep,
        changed: Changed,
        timing: Timing,
    ) -> None:
        self._account = account
        self._password = password
        self._http = http
        self._keep = keep
        self._changed = changed
        self._timing = timing
        self._lane = asyncio.Lock()
        self._waiting: dict[str, Lease[str] | None] = {}
        self._denied: dict[str, tuple[float, CallError]] = {}
        self.proven: str | None = None
        """The project that IAM last gave a token for."""
        self._lockout = Lockout(timing.random_unit)
        self._backoff = Backoff(timing)
        self.reason: str | None = None
        """Why IAM gives no token to anyone; None while it does, or while that is to be tried."""

    def __repr__(self) -> str:
        return f"<TokenIssuer: {self.reason or 'not refused'}>"

    @property
    def refused_until(self) -> float | None:
        """Until when the refused password is not tried (epoch seconds); another one is tried at once."""
        return self._lockout.until if self.reason is not None else None

    async def fetch(self, project_id: str) -> Lease[str] | CallError:
        """A token for the project, when it is its turn. To be called once at a time for each project."""
        self._waiting[project_id] = None
        try:
            async with self._lane:
                return self._waiting[project_id] or self._held(project_id) or await self._ask(project_id)
        finally:
            del self._waiting[project_id]

    def reopen(self) -> None:
        """Say that it is worth a try again, if it is."""
        if not self._lockout.rest(self._password(), self._timing.now()):
            self._tell(None)

    def _held(self, project_id: str) -> CallError | None:
        """The reason not to ask now, if any."""
        now = self._timing.now()
        until, denied = self._denied.get(project_id, (now, None))
        if now < until:
            return denied
        if rest := self._lockout.rest(self._password(), now):
            return unproved(CallStatus.NO_CREDENTIALS, self.reason or "IAM refuses the password", rest)
        return self._backoff.held()

    async def _ask(self, project_id: str) -> Lease[str] | CallError:
        password = self._password()
        ending = await self._call(project_id, password)
        if not isinstance(ending, Refusal):
            return ending
        witness = None if self._lockout.refusals else self._witness(project_id)
        if witness is not None and isinstance(lease := await self._call(witness, password), Lease):
            self._hand_over(witness, lease)
            return self._deny(project_id, ending)
        return self._pause(password, ending)

    def _witness(self, project_id: str) -> str | None:
        """Another project to show whether the password is right; best one for which it has been."""
        others = (self.proven, *self._waiting)
        return next((other for other in others if other not in {None, project_id}), None)

    def _hand_over(self, project_id: str, lease: Lease[str]) -> None:
        if project_id in self._waiting:
            self._waiting[project_id] = lease
        else:
            self._keep(project_id, lease)

    async def _call(self, project_id: str, password: str) -> Lease[str] | Refusal | CallError:
        asked = self._timing.now()
        ending = await ask_iam(self._http, self._account, password, project_id, asked)
        if isinstance(ending, CallError):
            return self._backoff.failed(ending)
        self._backoff.worked()
        if isinstance(ending, Refusal):
            return ending
        self.proven = project_id
        self._lockout.accepted()
        self._tell(None)
        until = asked + ending.life
        return Lease(ending.token, until - ending.life * RENEWED * self._timing.random_unit(), until)

    def _deny(self, project_id: str, refusal: Refusal) -> CallError:
        message = f"IAM gives {self._account.user} no token for project {project_id}: {refusal.why}"
        fault = CallError(
            Evidence.NEVER_SENT,
            ErrorKind.UNAUTHENTICATED,
            CallStatus.NO_CREDENTIALS,
            message,
            http_status=refusal.status,
        )
        self._denied.pop(project_id, None)
        self._denied[project_id] = (self._timing.now() + DENIED, fault)
        if len(self._denied) > _DENIED_PROJECTS:
            del self._denied[next(iter(self._denied))]
        return fault

    def _pause(self, password: str, refusal: Refusal) -> CallError:
        self._lockout.refused(password, self._timing.now())
        reason = f"IAM refuses the password of {self._account.user} (HTTP {refusal.status}: {refusal.why})"
        self._tell(reason)
        # The password may have been replaced meanwhile: then there is nothing to wait for.
        return unproved(CallStatus.NO_CREDENTIALS, reason, self._lockout.rest(self._password(), self._timing.now()))

    def _tell(self, reason: str | None) -> None:
        was, self.reason = self.reason, reason
        if was != reason:
            self._changed(reason)

"""Asks IAM for tokens, without ever hammering it.

All token calls go one after the other. They are rare (one per project and day), IAM throttles at a few per second,
and a password that has just become wrong must not be tried by many calls at once.

IAM does not reliably say whether it refuses the user, the password or the project. So that one request for a project
that does not exist stops no other, a project that never had a token is blamed first, and the password only when
another project is refused as well.
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from worker.dcs.auth.lease import Backoff, Lease, Timing, unproved
from worker.dcs.auth.lockout import Lockout
from worker.dcs.auth.token_call import Account, Refusal, ask_iam
from worker.dcs.http_client import HttpClient
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence

RENEWED: Final = 0.1
"""A token is renewed at a random point of this last share of its life."""
DENIED: Final = 300.0
"""Seconds for which IAM is not asked again for a project that it denies to the user."""
_REMEMBERED_PROJECTS: Final = 1000

T = TypeVar("T")
Changed = Callable[[str | None], None]
"""Is told why no call can be authorised any more; None: that it is worth a try again."""


class TokenIssuer:
    """Brings tokens; `password` gives the present one."""

    def __init__(
        self,
        account: Account,
        password: Callable[[], str],
        http: HttpClient,
        changed: Changed,
        timing: Timing,
    ) -> None:
        self._account = account
        self._password = password
        self._http = http
        self._changed = changed
        self._timing = timing
        self._lane = asyncio.Lock()
        self._denied: dict[str, tuple[float, CallError]] = {}
        self._granted: dict[str, None] = {}
        """Projects that IAM gave tokens for, the last one last."""
        self._doubted: str | None = None
        """The project that alone is blamed for all refusals since the last token."""
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

    @property
    def proven(self) -> str | None:
        """The project that IAM last gave a token for."""
        return next(reversed(self._granted), None)

    async def fetch(self, project_id: str) -> Lease[str] | CallError:
        """A token for the project, when it is its turn. To be called once at a time for each project."""
        async with self._lane:
            return self._held(project_id) or await self._ask(project_id)

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
        password, asked = self._password(), self._timing.now()
        ending = await ask_iam(self._http, self._account, password, project_id, asked)
        if isinstance(ending, CallError):
            return self._backoff.failed(ending)
        self._backoff.worked()
        if isinstance(ending, Refusal):
            return self._deny(project_id, ending) if self._blames(project_id) else self._pause(password, ending)
        _put_last(self._granted, project_id, None)
        self._doubted = None
        self._lockout.accepted()
        self._tell(None)
        until = asked + ending.life
        return Lease(ending.token, until - ending.life * RENEWED * self._timing.random_unit(), until)

    def _blames(self, project_id: str) -> bool:
        """Whether the project is at fault: it never had a token, others had, and no other was refused since."""
        return (
            bool(self._granted)
            and project_id not in self._granted
            and self._doubted in {None, project_id}
            and not self._lockout.refusals
        )

    def _deny(self, project_id: str, refusal: Refusal) -> CallError:
        message = f"IAM gives {self._account.user} no token for project {project_id}: {refusal.why}"
        fault = CallError(
            Evidence.NEVER_SENT,
            ErrorKind.UNAUTHENTICATED,
            CallStatus.NO_CREDENTIALS,
            message,
            http_status=refusal.status,
        )
        self._doubted = project_id
        _put_last(self._denied, project_id, (self._timing.now() + DENIED, fault))
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


def _put_last(known: dict[str, T], project_id: str, value: T) -> None:
    known.pop(project_id, None)
    known[project_id] = value
    if len(known) > _REMEMBERED_PROJECTS:
        del known[next(iter(known))]

"""Authentication by password: project-scoped tokens of IAM, one for each project.

All token calls go one after the other. They are rare (one per project and day), IAM throttles at a few per second,
and a password that has just become wrong must not be tried by many calls at once.

IAM does not reliably say whether it refuses the user, the password or the project. So that one request for a project
that does not exist stops no other, a project that never had a token is blamed first, and the password only when
another project is refused as well.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeVar

import httpx2

from worker.dcs.auth.cached_credential import Backoff, Lease, Slot, Timing, unproved
from worker.dcs.auth.iam_login import Account, Lockout, Refusal, ask_iam
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


IAM_TIMEOUT_SECONDS: Final = 10.0
"""Seconds for one token call."""
LOOK: Final = 1.0
"""Seconds between two looks at the password while it is refused."""
PROJECTS: Final = 1000
"""Projects whose tokens are kept; beyond, the least recently used is forgotten."""


class IamTokens:
    """Obtains, keeps and renews tokens; `password` gives the present one, which may change at any time."""

    def __init__(
        self,
        account: Account,
        password: Callable[[], str],
        http: HttpClient,
        *,
        changed: Changed = lambda _: None,
        timing: Timing | None = None,
    ) -> None:
        self._timing = timing or Timing()
        self._changed = changed
        self._issuer = TokenIssuer(account, password, http, self._tell, self._timing)
        self._slots: OrderedDict[str, Slot[str]] = OrderedDict()
        self._watching: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<IamTokens of {len(self._slots)} projects, {self._issuer!r}>"

    @property
    def is_refused(self) -> bool:
        """True while the password counts as wrong."""
        return self._issuer.reason is not None

    @property
    def refused_until(self) -> float | None:
        """Until when the refused password is not tried (epoch seconds); another one is tried at once."""
        return self._issuer.refused_until

    @property
    def reason(self) -> str | None:
        """Why IAM gives no token to anyone."""
        return self._issuer.reason

    async def authorise(self, request: httpx2.Request, project_id: str) -> CallError | None:
        """Put the project's token on `request`."""
        token = await self._slot(project_id).get()
        if isinstance(token, CallError):
            return token
        request.headers["X-Auth-Token"] = token
        return None

    async def renew(self, project_id: str, refused: httpx2.Request) -> bool:
        """Another token can be tried, unless the refused one was itself fetched because of a refusal just now."""
        return self._slot(project_id).drop(refused.headers.get("X-Auth-Token", ""))

    def explain(self, refusal: Mapping[str, str]) -> str | None:
        """A token needs no explanation."""
        return None

    async def aclose(self) -> None:
        """End the token calls under way."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        await asyncio.gather(*(slot.aclose() for slot in self._slots.values()))

    def _slot(self, project_id: str) -> Slot[str]:
        slot = self._slots.get(project_id)
        if slot is None:
            self._make_room()
            slot = self._slots[project_id] = Slot(
                CallStatus.IAM_UNAVAILABLE, partial(self._issuer.fetch, project_id), self._timing.now
            )
        self._slots.move_to_end(project_id)
        return slot

    def _make_room(self) -> None:
        idle = (project_id for project_id, slot in self._slots.items() if not slot.is_fetching)
        if len(self._slots) >= PROJECTS and (oldest := next(idle, None)) is not None:
            del self._slots[oldest]

    def _tell(self, reason: str | None) -> None:
        if reason is not None and (self._watching is None or self._watching.done()):
            self._watching = asyncio.create_task(self._watch())
        self._changed(reason)

    async def _watch(self) -> None:
        """Find out that the password is right again, also when nobody asks because consumption is paused."""
        while self._issuer.reason is not None:
            await self._timing.sleep(LOOK)
            if self._issuer.proven is not None:
                await self._slot(self._issuer.proven).begin()
            else:
                # No project is known to be right: only requests can tell.
                self._issuer.reopen()

"""Credentials by password: project-scoped tokens of IAM, one per project."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import httpx2

from worker.dcs.auth.issuer import Changed, TokenIssuer
from worker.dcs.auth.lease import Slot, Timing
from worker.dcs.auth.token_call import Account
from worker.dcs.http_client import HttpClient
from worker.policy.call_result import CallError, CallStatus

DEADLINE: Final = 10.0
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

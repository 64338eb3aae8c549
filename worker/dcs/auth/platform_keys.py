"""Credentials of the platform: keys of the profile file, else temporary ones of the metadata service."""

from collections.abc import Mapping

import httpx2

from worker.dcs.auth.lease import Slot, Timing
from worker.dcs.auth.metadata import Metadata
from worker.dcs.auth.profile import Profile
from worker.dcs.auth.signer import is_signed_with, put_signature
from worker.dcs.auth.signing import Keys
from worker.dcs.clock import wrong_clock
from worker.policy.call_result import CallError, CallStatus


class PlatformKeys:
    """Signs with the keys that the platform gives; a profile that has keys goes first, as in the official SDK."""

    def __init__(self, profile: Profile | None, metadata: Metadata, timing: Timing) -> None:
        self._profile = profile
        self._slot: Slot[Keys] = Slot(CallStatus.METADATA_UNAVAILABLE, metadata.fetch, timing.now)
        self._now = timing.now

    def __repr__(self) -> str:
        return f"<PlatformKeys: {self._profile or self._slot!r}>"

    async def authorise(self, request: httpx2.Request, project_id: str) -> CallError | None:
        """Sign `request`."""
        keys = self._stored() or await self._slot.get()
        if isinstance(keys, CallError):
            return keys
        put_signature(request, project_id, keys, self._now())
        return None

    async def renew(self, project_id: str, refused: httpx2.Request) -> bool:
        """Other keys can be tried if they were replaced since, or if the metadata service may give newer ones."""
        keys = self._stored()
        if keys is not None:
            return not is_signed_with(refused, keys)
        lease = self._slot.lease
        if lease is None or not is_signed_with(refused, lease.value):
            return True
        return self._slot.drop(lease.value)

    def explain(self, refusal: Mapping[str, str]) -> str | None:
        """A wrong clock makes every signature invalid."""
        return wrong_clock(refusal.get("date"), self._now())

    async def aclose(self) -> None:
        """End the calls of the metadata service."""
        await self._slot.aclose()

    def _stored(self) -> Keys | None:
        return self._profile.keys() if self._profile is not None else None

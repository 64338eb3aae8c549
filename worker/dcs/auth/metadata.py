"""Temporary keys from the metadata service of the server that this runs on.

Source: ECS User Guide, "Obtaining Metadata" and "Security Key"; huaweicloudsdkcore 3.1.219, auth/internal.py.
"""

from datetime import UTC, datetime
from typing import Final

import httpx2
from pydantic import BaseModel, SecretStr

from worker.dcs.auth.lease import Backoff, Lease, Timing, unproved
from worker.dcs.auth.signing import Keys
from worker.dcs.http_client import HttpClient, new_request
from worker.policy.call_result import CallError, CallStatus

ADDRESS: Final = "http://169.254.169.254"
DEADLINE: Final = 3.0
"""Seconds for each of the two calls."""
EARLY: Final = 2400.0
"""Keys are renewed at least so many seconds before they end, like the SDK does; those of a short life, in its last
tenth."""
TOKEN_SECONDS: Final = 60
_WITHOUT_TOKENS: Final = frozenset({404, 405, 503})


class _Credential(BaseModel):
    access: str
    secret: SecretStr
    securitytoken: SecretStr
    expires_at: datetime


class _KeyReply(BaseModel):
    credential: _Credential


class Metadata:
    """Brings temporary keys."""

    def __init__(self, http: HttpClient, address: str, timing: Timing) -> None:
        self._http = http
        self._address = address
        self._timing = timing
        self._backoff = Backoff(timing)

    def __repr__(self) -> str:
        return f"<Metadata {self._address}>"

    async def fetch(self) -> Lease[Keys] | CallError:
        """Keys, or why there are none now."""
        if (held := self._backoff.held()) is not None:
            return held
        ending = await self._ask()
        if isinstance(ending, CallError):
            return self._backoff.failed(ending)
        self._backoff.worked()
        return ending

    async def _ask(self) -> Lease[Keys] | CallError:
        headers = {"X-Metadata-Token-Ttl-Seconds": str(TOKEN_SECONDS)}
        token = await self._send("PUT", "/meta-data/latest/api/token", headers)
        if isinstance(token, CallError):
            return token
        # A service of the first version has no tokens, and asks for none.
        if token.status_code not in _WITHOUT_TOKENS and token.status_code != 200:
            return _faulty(token)
        shown = (
            {"X-Metadata-Token": token.content.decode("ascii", "ignore").strip()} if token.status_code == 200 else {}
        )
        reply = await self._send("GET", "/openstack/latest/securitykey", shown)
        if isinstance(reply, CallError):
            return reply
        return self._lease(reply.content) if reply.status_code == 200 else _faulty(reply)

    async def _send(self, method: str, path: str, headers: dict[str, str]) -> httpx2.Response | CallError:
        headers = {"Accept-Encoding": "identity", **headers}
        ending = await self._http.send(new_request("token", method, f"{self._address}{path}", headers))
        if isinstance(ending, CallError):
            return unproved(CallStatus.METADATA_UNAVAILABLE, f"the metadata service gave no keys ({ending.label})")
        return ending

    def _lease(self, body: bytes) -> Lease[Keys] | CallError:
        try:
            read = _KeyReply.model_validate_json(body).credential
            keys = Keys(read.access, read.secret.get_secret_value(), read.securitytoken.get_secret_value())
        except ValueError:
            return unproved(CallStatus.METADATA_UNAVAILABLE, "the keys of the metadata service cannot be read")
        until = (read.expires_at if read.expires_at.tzinfo else read.expires_at.replace(tzinfo=UTC)).timestamp()
        if until <= self._timing.now():
            return unproved(
                CallStatus.METADATA_UNAVAILABLE,
                "the keys of the metadata service are past their end: is this clock right?",
            )
        return Lease(keys, self._renew_at(until), until)

    def _renew_at(self, until: float) -> float:
        tenth = (until - self._timing.now()) / 10
        least = EARLY if tenth >= EARLY / 2 else 0.0
        return until - least - max(tenth - least, tenth / 2) * self._timing.random_unit()


def _faulty(reply: httpx2.Response) -> CallError:
    if reply.status_code == 401 and b"agency" in reply.content.lower():
        return unproved(CallStatus.METADATA_UNAVAILABLE, "this server has no agency: assign one to it that may use DCS")
    return unproved(CallStatus.METADATA_UNAVAILABLE, f"the metadata service gave no keys (HTTP {reply.status_code})")

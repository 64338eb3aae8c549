"""Temporary access keys: the interface of the services that give them, and the one reader of their replies.

Source of the spellings: huaweicloudsdkcore 3.1.219, auth/internal.py.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import ClassVar, Final

import httpx2
from pydantic import AliasChoices, BaseModel, Field, SecretStr

from worker.dcs.auth.cached_credential import Credential, FetchBackoff, Timing, no_credential
from worker.dcs.auth.signing import Keys
from worker.dcs.http_client import HEADERS, CallFailedError, HttpClient, new_request
from worker.policy.call_result import CallError, CallStatus

RENEWAL_SHARE: Final = 1 / 3
"""Keys are renewed when this share of their life is left, but at most MAX_RENEWAL_SECONDS before their end."""
MAX_RENEWAL_SECONDS: Final = 600.0
_TRANSIENT_STATUSES: Final = frozenset({408, 425, 429})


class _Credential(BaseModel):
    access: str = Field(validation_alias=AliasChoices("access", "accessKeyId", "access_key_id"))
    secret: SecretStr = Field(validation_alias=AliasChoices("secret", "secretAccessKey", "secret_access_key"))
    token: SecretStr = Field(validation_alias=AliasChoices("securitytoken", "securityToken", "security_token"))
    end: datetime = Field(validation_alias=AliasChoices("expires_at", "expiration"))


class _KeyReply(BaseModel):
    credential: _Credential = Field(validation_alias=AliasChoices("credential", "credentials"))


class KeySource(ABC):
    """A service that gives temporary keys; fetches that fail are spaced by a backoff.

    `name`: the service in messages. `unavailable`: the status while it does not answer.
    """

    name: ClassVar[str]
    unavailable: ClassVar[CallStatus]

    def __init__(self, http: HttpClient, timing: Timing) -> None:
        self._http = http
        self._timing = timing
        self._backoff = FetchBackoff(timing)

    async def fetch(self) -> Credential[Keys] | CallError:
        """Keys, or why there are none now."""
        if (waiting := self._backoff.active_error()) is not None:
            return waiting
        try:
            credential = self._credential((await self._ask()).content)
        except CallFailedError as failed:
            return self._backoff.failed(failed.error)
        self._backoff.worked()
        return credential

    @abstractmethod
    async def _ask(self) -> httpx2.Response:
        """The reply that holds keys. Raises CallFailedError if there is none."""

    def failure(self, found: str, status: CallStatus | None = None) -> CallFailedError:
        """What a fetch raises that ends without keys; time may help."""
        return CallFailedError(no_credential(status or self.unavailable, found))

    async def _send(self, method: str, url: str, headers: Mapping[str, str], body: object = None) -> httpx2.Response:
        """The answer to one call, of any status. Raises CallFailedError if there is none."""
        common = {"Accept-Encoding": "identity"} if body is None else HEADERS
        content = b"" if body is None else json.dumps(body).encode()
        reply = await self._http.send(new_request("token", method, url, {**common, **headers}, content))
        if isinstance(reply, CallError):
            raise self.failure(f"{self.name} gave no keys ({reply.label})")
        return reply

    async def _post(self, url: str, headers: Mapping[str, str], body: object, secret: str) -> httpx2.Response:
        """The 2xx answer to a call that shows `secret`. Raises CallFailedError if there is none."""
        self._http.redactor.add((secret,))
        reply = await self._send("POST", url, headers, body)
        if 200 <= reply.status_code < 300:
            return reply
        said = " ".join((self._http.error_of(reply).error_msg or "no reason given").split())
        is_refused = 400 <= reply.status_code < 500 and reply.status_code not in _TRANSIENT_STATUSES
        found = f"{self.name} {'refuses' if is_refused else 'gave no'} keys (HTTP {reply.status_code}: {said[:200]})"
        raise self.failure(found, CallStatus.NO_CREDENTIALS if is_refused else None)

    def _credential(self, body: bytes) -> Credential[Keys]:
        try:
            read = _KeyReply.model_validate_json(body).credential
            keys = Keys(read.access, read.secret.get_secret_value(), read.token.get_secret_value())
        except ValueError:
            raise self.failure(f"the keys of {self.name} cannot be read") from None
        self._http.redactor.add((keys.secret_key,))
        until = (read.end if read.end.tzinfo else read.end.replace(tzinfo=UTC)).timestamp()
        left = until - self._timing.now()
        if left <= 0:
            raise self.failure(f"the keys of {self.name} are past their end: is this clock right?")
        return Credential(keys, until - min(left * RENEWAL_SHARE, MAX_RENEWAL_SECONDS), until)

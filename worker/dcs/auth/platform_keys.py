"""Access keys of the platform: those of the official SDK's profile file, else temporary ones of the metadata service.

Sources: huaweicloudsdkcore 3.1.219, auth/provider.py and auth/internal.py; ECS User Guide, "Obtaining Metadata" and
"Security Key".
"""

import configparser
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx2
from pydantic import BaseModel, SecretStr

from worker.dcs.auth.cached_credential import CachedCredential, Credential, FetchBackoff, Timing, no_credential
from worker.dcs.auth.signing import Keys, KeySigner
from worker.dcs.http_client import HttpClient, new_request
from worker.policy.call_result import CallError, CallStatus

_SECTIONS: Final = ("basic", "global")
_Stamp = tuple[int, int, int, int]


class Profile:
    """The keys in `path`, as they are now; a file that becomes unusable leaves the former ones in use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: Keys | None = None
        self._seen: _Stamp | None = None

    def keys(self) -> Keys | None:
        """The present keys; None if the file never had any. Reads the file only when it changed."""
        with suppress(OSError, ValueError, configparser.Error):
            stamp = self._stamp()
            if stamp != self._seen:
                self._keys, self._seen = self._read(), stamp
        return self._keys

    def _stamp(self) -> _Stamp:
        fact = os.stat(self._path)
        return (fact.st_dev, fact.st_ino, fact.st_size, fact.st_mtime_ns)

    def _read(self) -> Keys:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(self._path.read_text("utf-8-sig"))
        for name in _SECTIONS:
            if parser.has_section(name):
                section = parser[name]
                if section.get("ak") and section.get("sk"):
                    return Keys(section["ak"], section["sk"], section.get("security_token") or None)
        raise ValueError("no section with ak and sk")


METADATA_ADDRESS: Final = "http://169.254.169.254"
METADATA_TIMEOUT_SECONDS: Final = 3.0
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
        self._backoff = FetchBackoff(timing)

    async def fetch(self) -> Credential[Keys] | CallError:
        """Keys, or why there are none now."""
        if (waiting := self._backoff.active_error()) is not None:
            return waiting
        result = await self._ask()
        if isinstance(result, CallError):
            return self._backoff.failed(result)
        self._backoff.worked()
        return result

    async def _ask(self) -> Credential[Keys] | CallError:
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
        return self._credential(reply.content) if reply.status_code == 200 else _faulty(reply)

    async def _send(self, method: str, path: str, headers: dict[str, str]) -> httpx2.Response | CallError:
        headers = {"Accept-Encoding": "identity", **headers}
        result = await self._http.send(new_request("token", method, f"{self._address}{path}", headers))
        if isinstance(result, CallError):
            return no_credential(CallStatus.METADATA_UNAVAILABLE, f"the metadata service gave no keys ({result.label})")
        return result

    def _credential(self, body: bytes) -> Credential[Keys] | CallError:
        try:
            read = _KeyReply.model_validate_json(body).credential
            keys = Keys(read.access, read.secret.get_secret_value(), read.securitytoken.get_secret_value())
        except ValueError:
            return no_credential(CallStatus.METADATA_UNAVAILABLE, "the keys of the metadata service cannot be read")
        until = (read.expires_at if read.expires_at.tzinfo else read.expires_at.replace(tzinfo=UTC)).timestamp()
        if until <= self._timing.now():
            return no_credential(
                CallStatus.METADATA_UNAVAILABLE,
                "the keys of the metadata service are past their end: is this clock right?",
            )
        return Credential(keys, self._renew_at(until), until)

    def _renew_at(self, until: float) -> float:
        tenth = (until - self._timing.now()) / 10
        least = EARLY if tenth >= EARLY / 2 else 0.0
        return until - least - max(tenth - least, tenth / 2) * self._timing.random_unit()


def _faulty(reply: httpx2.Response) -> CallError:
    found = f"the metadata service gave no keys (HTTP {reply.status_code})"
    if reply.status_code == 401 and b"agency" in reply.content.lower():
        found = "this server has no agency: assign one to it that may use DCS"
    return no_credential(CallStatus.METADATA_UNAVAILABLE, found)


def platform_signer(profile: Profile | None, http: HttpClient, address: str, timing: Timing) -> KeySigner:
    """Signs with the keys that the platform gives; a profile that has keys goes first, as in the official SDK."""
    stored = profile.keys if profile is not None else lambda: None
    fetch = Metadata(http, address, timing).fetch
    return KeySigner(stored, CachedCredential(CallStatus.METADATA_UNAVAILABLE, fetch, timing.now), now=timing.now)

"""Access keys of the platform: of the workload's identity, else of the SDK's profile file, else of the metadata.

Sources: huaweicloudsdkcore 3.1.219, auth/provider.py and auth/internal.py; ECS User Guide, "Obtaining Metadata" and
"Security Key".
"""

import configparser
import os
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

import httpx2

from worker.dcs.auth.cached_credential import CachedCredential, Credential, Timing, no_credential
from worker.dcs.auth.signing import Keys, KeySigner
from worker.dcs.auth.temporary_keys import KeySource
from worker.dcs.auth.workload_identity import Federation, Identity, key_source
from worker.dcs.http_client import HttpClient
from worker.policy.call_result import CallError, CallStatus

_SECTIONS: Final = ("basic", "global")
_Stamp = tuple[int, int, int, int]


class Profile:
    """The keys in `path`, or the identity that brings them; a file that becomes unusable leaves the former in use.

    `iam_endpoint`: of the old IAM, unless the file names another. Raises ValueError if the file has neither.
    """

    def __init__(self, path: Path, iam_endpoint: str = "") -> None:
        self._path = path
        self._iam_endpoint = iam_endpoint
        self._found = self._read()
        self._seen: _Stamp | None = None

    def keys(self) -> Keys | None:
        """The present keys; None if the file has an identity."""
        found = self._current()
        return found if isinstance(found, Keys) else None

    def identity(self) -> Federation | None:
        """The present identity; None if the file has keys."""
        found = self._current()
        return found if isinstance(found, Federation) else None

    def _current(self) -> Keys | Federation:
        """Reads the file only when it changed."""
        with suppress(OSError, ValueError):
            stamp = self._stamp()
            if stamp != self._seen:
                self._found, self._seen = self._read(), stamp
        return self._found

    def _stamp(self) -> _Stamp:
        fact = os.stat(self._path)
        return (fact.st_dev, fact.st_ino, fact.st_size, fact.st_mtime_ns)

    def _read(self) -> Keys | Federation:
        parser = configparser.ConfigParser(interpolation=None)
        with suppress(OSError, ValueError, configparser.Error):
            parser.read_string(self._path.read_text("utf-8-sig"))
            for section in (parser[name] for name in _SECTIONS if parser.has_section(name)):
                if section.get("idp_id") and section.get("id_token_file"):
                    endpoint = section.get("iam_endpoint") or self._iam_endpoint
                    return Federation(endpoint.rstrip("/"), section["idp_id"], Path(section["id_token_file"]))
                if section.get("ak") and section.get("sk"):
                    return Keys(section["ak"], section["sk"], section.get("security_token") or None)
        rule = "ak and sk, or idp_id and id_token_file, in its section basic or global"
        raise ValueError(f"{self._path} must have usable {rule}")


METADATA_ADDRESS: Final = "http://169.254.169.254"
METADATA_TIMEOUT_SECONDS: Final = 3.0
"""Seconds for each of the two calls."""
TOKEN_SECONDS: Final = 60
_WITHOUT_TOKENS: Final = frozenset({404, 405, 503})


class Metadata(KeySource):
    """The metadata service of a server, with the keys of the server's agency."""

    name = "the metadata service"
    unavailable = CallStatus.METADATA_UNAVAILABLE

    def __init__(self, http: HttpClient, address: str, timing: Timing) -> None:
        super().__init__(http, timing)
        self._address = address

    async def _ask(self) -> httpx2.Response:
        headers = {"X-Metadata-Token-Ttl-Seconds": str(TOKEN_SECONDS)}
        token = await self._send("PUT", f"{self._address}/meta-data/latest/api/token", headers)
        # A service of the first version has no tokens, and asks for none.
        if token.status_code not in _WITHOUT_TOKENS:
            self._check(token)
        shown = (
            {"X-Metadata-Token": token.content.decode("ascii", "ignore").strip()} if token.status_code == 200 else {}
        )
        reply = await self._send("GET", f"{self._address}/openstack/latest/securitykey", shown)
        self._check(reply)
        return reply

    def _check(self, reply: httpx2.Response) -> None:
        if reply.status_code == 401 and b"agency" in reply.content.lower():
            raise self.failure("this server has no agency: assign one to it that may use DCS")
        if reply.status_code != 200:
            raise self.failure(f"{self.name} gave no keys (HTTP {reply.status_code})")


def platform_signer(
    source: Identity | Profile | None,
    http_client: Callable[[float], HttpClient],
    metadata_address: str,
    timing: Timing,
) -> KeySigner:
    """Signs with the platform's keys. A way that is configured but fails is never replaced by the next one.

    Its keys would be those of another identity, which may have other rights or another account.
    """

    def new_source(identity: Identity) -> KeySource:
        return key_source(identity, http_client, timing)

    if isinstance(source, Profile):
        profile, source_of = source, lru_cache(maxsize=1)(new_source)

        async def fetch() -> Credential[Keys] | CallError:
            if (identity := profile.identity()) is None:
                return no_credential(CallStatus.NO_CREDENTIALS, "the profile file was replaced just now")
            return await source_of(identity).fetch()

        return KeySigner(profile.keys, CachedCredential(CallStatus.IAM_UNAVAILABLE, fetch, timing.now), now=timing.now)
    http = http_client(METADATA_TIMEOUT_SECONDS)
    keys = Metadata(http, metadata_address, timing) if source is None else new_source(source)
    return KeySigner(lambda: None, CachedCredential(keys.unavailable, keys.fetch, timing.now), now=timing.now)

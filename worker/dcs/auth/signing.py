"""Access keys: each request is signed with SDK-HMAC-SHA256, equal to the signatures of the official SDK.

The canonical request is six parts joined by newlines: method; path, percent-encoded, with a trailing slash that is
not sent; query, sorted by name and value; one `name:value` line per signed header; their names; SHA-256 of the body.
Source: Huawei Cloud, API Request Signing Guide; huaweicloudsdkcore 3.1.219, signer/signer.py.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import httpx2

from worker.dcs.auth.auth_method import AuthMethod
from worker.dcs.auth.cached_credential import CachedCredential
from worker.policy.call_result import CallError
from worker.policy.error_text import SKEW_TOLERANCE_SECONDS

ALGORITHM: Final = "SDK-HMAC-SHA256"
_ENCODED_SLASH: Final = re.compile("%2F", re.IGNORECASE)
VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True, repr=False)
class Keys:
    """An access key, with the security token that belongs to it if it is temporary.

    Raises ValueError for what cannot travel in a header; its text has no key.
    """

    access_key: str
    secret_key: str
    security_token: str | None = None

    def __post_init__(self) -> None:
        for value in (self.access_key, self.secret_key, self.security_token):
            if value is not None and not VISIBLE_ASCII.fullmatch(value):
                raise ValueError("keys must consist of visible ASCII characters (the value is not shown)")

    def __repr__(self) -> str:
        return "<Keys>"


def sign(method: str, url: str, headers: Mapping[str, str], body: bytes, keys: Keys, now: float) -> dict[str, str]:
    """The headers that sign a request. `url`: its path and query are covered.

    `headers`: those that the signature has to cover besides the added ones, `Host` among them; sent as they are.
    The body is always covered. `now`: epoch seconds; the service accepts a signature for 15 minutes.
    """
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    added = {"X-Sdk-Date": moment}
    if keys.security_token is not None:
        added["X-Security-Token"] = keys.security_token
    covered = sorted((name.lower(), value.strip()) for name, value in {**headers, **added}.items())
    names = ";".join(name for name, _ in covered)
    lines = "".join(f"{name}:{value}\n" for name, value in covered)
    split = urlsplit(url)
    parts = (method.upper(), canonical_path(split.path), canonical_query(split.query), lines, names, _sha256(body))
    text = f"{ALGORITHM}\n{moment}\n{_sha256(chr(10).join(parts).encode())}"
    signature = hmac.new(keys.secret_key.encode(), text.encode(), hashlib.sha256).hexdigest()
    added["Authorization"] = f"{ALGORITHM} Access={keys.access_key}, SignedHeaders={names}, Signature={signature}"
    return added


def canonical_path(path: str) -> str:
    """The path as it is signed. Like the SDK, an encoded slash counts as a slash."""
    encoded = _encoded(_decoded(path), safe="~/")
    return encoded if encoded.endswith("/") else encoded + "/"


def canonical_query(query: str) -> str:
    """The query as it is signed: decoded, sorted and encoded again. A plus sign is itself, a blank is %20."""
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    decoded = sorted((_decoded(name), _decoded(value)) for name, _, value in pairs)
    return "&".join(f"{_encoded(name)}={_encoded(value)}" for name, value in decoded)


def encoded_path(path: str) -> str:
    """The path as it is sent: encoded as it is signed, except that an encoded slash stays one."""
    return "%2F".join(_encoded(_decoded(part), safe="~/") for part in _ENCODED_SLASH.split(path))


def canonical_url(url: str) -> str:
    """The URL as it is to be sent: every reserved character of path and query encoded, the query sorted.

    A gateway that compares bytes, instead of decoding and encoding, then finds what was signed.
    """
    parts = urlsplit(url)
    return parts._replace(path=encoded_path(parts.path), query=canonical_query(parts.query)).geturl()


def _decoded(text: str) -> str:
    # Bytes that are no UTF-8 survive, so that a request is signed as it is even then.
    return unquote(text, errors="surrogateescape")


def _encoded(text: str, safe: str = "~") -> str:
    return quote(text, safe=safe, errors="surrogateescape")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def skew(date: str | None, now: float) -> float | None:
    """Seconds by which this clock is ahead of the service's (behind it: negative); None if the reply does not tell.

    `date`: the Date header of a reply that came just now; `now`: epoch seconds.
    """
    try:
        moment = parsedate_to_datetime(date or "")
    except (ValueError, TypeError, OverflowError):
        return None
    return now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def wrong_clock(off: float | None) -> str | None:
    """A sentence, if this clock is so many seconds ahead that the service accepts no signature; else None."""
    if off is None or abs(off) <= SKEW_TOLERANCE_SECONDS:
        return None
    side = "ahead of" if off > 0 else "behind"
    return (
        f"the clock of this machine is {abs(off) / 60:.0f} min {side} the service's; "
        f"signatures are valid for {SKEW_TOLERANCE_SECONDS / 60:.0f} minutes"
    )


_COVERED: Final = ("host", "content-type", "x-project-id")


def put_signature(request: httpx2.Request, project_id: str, keys: Keys, now: float) -> None:
    """Sign `request` for a call in a project. `now`: epoch seconds."""
    request.headers["X-Project-Id"] = project_id
    request.headers.pop("X-Security-Token", None)
    request.headers.update(_signature(request, keys, now))


def is_signed_with(request: httpx2.Request, keys: Keys) -> bool:
    """Whether `keys` would have signed the request as it is signed."""
    moment = datetime.strptime(request.headers["X-Sdk-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    again = _signature(request, keys, moment.timestamp())
    return again["Authorization"] == request.headers["Authorization"]


def _signature(request: httpx2.Request, keys: Keys, now: float) -> dict[str, str]:
    covered = {name: request.headers[name] for name in _COVERED if name in request.headers}
    # What is signed is what is sent, byte for byte: httpx2 has the last word on how a URL is written.
    return sign(request.method, str(request.url), covered, request.content, keys, now)


class KeySigner(AuthMethod):
    """Signs each request with access keys: `stored` ones as they are now, else `temporary` ones."""

    def __init__(
        self,
        stored: Callable[[], Keys | None],
        temporary: CachedCredential[Keys] | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._stored = stored
        self._temporary = temporary
        self._now = now

    def __repr__(self) -> str:
        return f"<KeySigner: {self._temporary or 'stored keys'}>"

    async def authorise(self, request: httpx2.Request, project_id: str) -> CallError | None:
        """Sign `request`."""
        keys = self._stored()
        if keys is None:
            assert self._temporary is not None
            result = await self._temporary.get()
            if isinstance(result, CallError):
                return result
            keys = result
        put_signature(request, project_id, keys, self._now())
        return None

    async def renew(self, project_id: str, refused: httpx2.Request) -> bool:
        """Other keys can be tried if they were replaced since, or if there may be newer temporary ones."""
        if (keys := self._stored()) is not None:
            return not is_signed_with(refused, keys)
        assert self._temporary is not None
        credential = self._temporary.credential
        if credential is None or not is_signed_with(refused, credential.value):
            return True
        return self._temporary.drop(credential.value)

    def explain(self, clock_skew: float | None) -> str | None:
        """A wrong clock makes every signature invalid."""
        return wrong_clock(clock_skew)

    async def aclose(self) -> None:
        """End the fetch of temporary keys."""
        if self._temporary is not None:
            await self._temporary.aclose()

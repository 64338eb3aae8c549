"""Verification of SDK-HMAC-SHA256 signatures, written from the protocol, independently of the worker's own signer.

The canonical request is six parts joined by newlines: method; path, every segment percent-encoded, with a trailing
slash; query sorted by name and value; one `name:value` line per signed header; the list of signed headers; SHA-256 of
the body. The signature is the HMAC of algorithm, date and hash of the canonical request under the secret key.
Source: Huawei Cloud, API Request Signing Guide.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

_ALGORITHM = "SDK-HMAC-SHA256"
_UNSIGNED = "UNSIGNED-PAYLOAD"


class Authorization(NamedTuple):
    """The parts of an `Authorization` header."""

    access_key: str
    signed: tuple[str, ...]
    signature: str


def read_authorization(text: str) -> Authorization:
    """Parse `SDK-HMAC-SHA256 Access=…, SignedHeaders=a;b, Signature=…`. Raises ValueError."""
    algorithm, _, rest = text.partition(" ")
    parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    if algorithm != _ALGORITHM or parts.keys() != {"Access", "SignedHeaders", "Signature"}:
        msg = "not an SDK-HMAC-SHA256 authorization"
        raise ValueError(msg)
    return Authorization(parts["Access"], tuple(parts["SignedHeaders"].split(";")), parts["Signature"])


def seconds_off(date: str, now: float) -> float:
    """Seconds between an `X-Sdk-Date` such as 20240102T030405Z and `now` (epoch seconds). Raises ValueError."""
    return abs(datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp() - now)


def is_signed_by(
    secret: str,
    authorization: Authorization,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
) -> bool:
    """Whether the signature covers exactly this request.

    `target` is path and query as received, `headers` ignores the case of names. A request that does not sign its date
    is never valid: it could be replayed without limit.
    """
    if "x-sdk-date" not in authorization.signed or any(name not in headers for name in authorization.signed):
        return False
    canonical = canonical_request(method, target, headers, authorization.signed, body)
    text = f"{_ALGORITHM}\n{headers['x-sdk-date']}\n{hashlib.sha256(canonical).hexdigest()}"
    expected = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, authorization.signature)


def canonical_request(
    method: str, target: str, headers: Mapping[str, str], signed: tuple[str, ...], body: bytes
) -> bytes:
    """The bytes that are hashed; header values are taken as received, UTF-8 with other bytes as surrogates."""
    path, _, query = target.partition("?")
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in signed)
    parts = [method, _path(path), _query(query), lines, ";".join(signed), _payload_hash(headers, body)]
    return "\n".join(parts).encode("utf-8", "surrogateescape")


def _payload_hash(headers: Mapping[str, str], body: bytes) -> str:
    declared = headers.get("x-sdk-content-sha256")
    return _UNSIGNED if declared == _UNSIGNED else hashlib.sha256(body).hexdigest()


def _path(path: str) -> str:
    encoded = "/".join(_encoded(unquote_to_bytes(segment)) for segment in path.split("/"))
    return encoded if encoded.endswith("/") else encoded + "/"


def _query(query: str) -> str:
    # A plus sign is a plus sign: the protocol writes a space as %20.
    pairs = [pair.partition("=")[::2] for pair in query.split("&") if pair]
    decoded = sorted((unquote_to_bytes(name), unquote_to_bytes(value)) for name, value in pairs)
    return "&".join(f"{_encoded(name)}={_encoded(value)}" for name, value in decoded)


def _encoded(text: bytes) -> str:
    return quote(text, safe="-_.~")

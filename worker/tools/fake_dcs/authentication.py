"""Authentication of calls: fixed tokens, tokens of the IAM API, signatures; what was issued, and what is locked.

Signatures are verified from the protocol, independently of the worker's own signer. The canonical request is six parts
joined by newlines: method; path, every segment percent-encoded, with a trailing slash; query sorted by name and value;
one `name:value` line per signed header; the list of signed headers; SHA-256 of the body. The signature is the HMAC of
algorithm, date and hash of the canonical request under the secret key.

Sources: Huawei Cloud, API Request Signing Guide, and its Common Errors Related to IAM Authentication Information; DCS
API Reference, Error Codes.
"""

import hashlib
import hmac
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from aiohttp import web

from worker.tools.fake_dcs.faults import ErrorResponse, IamErrorResponse
from worker.tools.fake_dcs.settings import Auth

CLOCK_TOLERANCE_SECONDS = 900.0
ALGORITHM = "SDK-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A call whose credentials are to be checked: `project` is in its path, `now` is the service's time."""

    request: web.Request
    body: bytes
    project: str | None
    now: float


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A project-scoped token, valid until `expires` (epoch seconds) and while the user's password is unchanged."""

    project: str
    expires: float
    user: str
    password: str

    def is_valid(self, auth: Auth, now: float) -> bool:
        """Whether the token is still accepted."""
        return now < self.expires and self.user == auth.user and self.password == auth.password.get_secret_value()


@dataclass(frozen=True, slots=True)
class TemporaryAccessKey:
    """A key pair with a security token, valid until `expires` (epoch seconds)."""

    access_key: str
    secret_key: str
    security_token: str
    expires: float


class Authenticator:
    """Checks credentials, issues tokens and temporary keys, and locks accounts and keys that fail too often."""

    def __init__(self) -> None:
        self.tokens: dict[str, IssuedToken] = {}
        self.keys: dict[str, TemporaryAccessKey] = {}
        self.metadata_tokens: dict[str, float] = {}
        """Until when each token of the metadata service is valid."""
        self._wrong_in_a_row: Counter[str] = Counter()
        self._locked_until: dict[str, float] = {}

    def issue_token(self, auth: Auth, project: str, now: float) -> tuple[str, IssuedToken]:
        """Issue a token for a project; the older ones stay valid."""
        text = token_hex(64)
        secret = auth.password.get_secret_value()
        self.tokens[text] = token = IssuedToken(project, now + auth.token_seconds, auth.user, secret)
        return text, token

    def issue_key(self, auth: Auth, now: float) -> TemporaryAccessKey:
        """Issue a temporary access key."""
        expires = now + auth.temporary_key_seconds
        key = TemporaryAccessKey(token_hex(10).upper(), token_hex(20), token_hex(64), expires)
        self.keys[key.access_key] = key
        return key

    def issue_metadata_token(self, seconds: float, now: float) -> str:
        """Issue a token of the metadata service, valid for `seconds`."""
        text = token_hex(28)
        self.metadata_tokens[text] = now + seconds
        return text

    def check(self, auth: Auth, received: ReceivedRequest) -> None:
        """Raise the documented ErrorResponse unless the call has the credentials that the mode demands."""
        if auth.mode == "token" and _token_of(received) != auth.token.get_secret_value():
            raise ErrorResponse(401, "DCS.1001")
        if auth.mode == "iam":
            self._check_issued_token(auth, received)
        if auth.mode in {"aksk", "platform"}:
            authorization = read_authorization(received.request.headers.get("Authorization", ""))
            self._check_signature(auth, received, authorization)

    def check_password(self, auth: Auth, account: tuple[str, str], password: str, now: float) -> None:
        """Raise the documented ErrorResponse unless the password of domain and user is right, and not locked."""
        if now < self._locked_until.get(account[1], 0.0):
            raise IamErrorResponse(401, "The account is locked.", "Unauthorized")
        is_right = (*account, password) == (auth.domain, auth.user, auth.password.get_secret_value())
        self._count(auth, account[1], now, is_right=is_right)
        if not is_right:
            raise IamErrorResponse(401, "The username or password is wrong.", "Unauthorized")

    def _check_signature(self, auth: Auth, received: ReceivedRequest, authorization: "Authorization") -> None:
        """Raise the documented ErrorResponse unless the signature is right, in time, and of the path's project."""
        headers, access_key = received.request.headers, authorization.access_key
        if received.now < self._locked_until.get(access_key, 0.0):
            raise incorrect_signature("AK access failed to reach the limit,forbidden.")
        secret_key = self._secret_key_of(access_key, auth, received.now)
        if seconds_off(headers.get("X-Sdk-Date", ""), received.now) > CLOCK_TOLERANCE_SECONDS:
            raise incorrect_signature("signature expired, x-sdk-date differs from the time of the server")
        target, method = received.request.raw_path, received.request.method
        is_right = is_signed_by(secret_key, authorization, method, target, headers, received.body)
        self._count(auth, access_key, received.now, is_right=is_right)
        if not is_right:
            raise incorrect_signature("verify aksk signature fail")
        key = self.keys.get(access_key)
        if key is not None and headers.get("X-Security-Token") != key.security_token:
            raise incorrect_signature("verify security token fail")
        if received.project is not None and headers.get("X-Project-Id", received.project) != received.project:
            raise ErrorResponse(401, "DCS.1004")

    def _secret_key_of(self, access_key: str, auth: Auth, now: float) -> str:
        """The secret key of a lasting or temporary access key. Raises the documented ErrorResponse if there is none."""
        if (key := self.keys.get(access_key)) is not None:
            if now >= key.expires:
                raise incorrect_signature("the temporary access key has expired")
            return key.secret_key
        if access_key != auth.access_key or auth.mode == "platform":
            raise incorrect_signature(f"Get secretKey failed,ak:{access_key},err:ak not exist")
        return auth.secret_key.get_secret_value()

    def _count(self, auth: Auth, account: str, now: float, *, is_right: bool) -> None:
        self._wrong_in_a_row[account] = 0 if is_right else self._wrong_in_a_row[account] + 1
        if auth.lock_after and self._wrong_in_a_row[account] >= auth.lock_after:
            self._locked_until[account] = now + auth.lock_seconds
            self._wrong_in_a_row[account] = 0

    def _check_issued_token(self, auth: Auth, received: ReceivedRequest) -> None:
        token = self.tokens.get(_token_of(received))
        if token is None:
            raise ErrorResponse(401, "DCS.1001")
        if not token.is_valid(auth, received.now):
            raise ErrorResponse(401, "APIGW.0307")
        if received.project not in {None, token.project}:
            raise ErrorResponse(401, "DCS.1004")


def _token_of(received: ReceivedRequest) -> str:
    token = received.request.headers.get("X-Auth-Token")
    if not token:
        raise ErrorResponse(401, "DCS.1003")
    return token


def incorrect_signature(why: str) -> ErrorResponse:
    """The error response of the gateway for a signature."""
    return ErrorResponse(401, "APIGW.0301", f"Incorrect IAM authentication information: {why}")


class Authorization(NamedTuple):
    """The parts of an `Authorization` header."""

    access_key: str
    signed: tuple[str, ...]
    signature: str


def read_authorization(text: str) -> Authorization:
    """Parse `SDK-HMAC-SHA256 Access=…, SignedHeaders=a;b, Signature=…`. Raises ErrorResponse."""
    algorithm, _, rest = text.partition(" ")
    parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    if algorithm != ALGORITHM or parts.keys() != {"Access", "SignedHeaders", "Signature"}:
        raise incorrect_signature("no signature found")
    return Authorization(parts["Access"], tuple(parts["SignedHeaders"].split(";")), parts["Signature"])


def seconds_off(date: str, now: float) -> float:
    """Seconds between an `X-Sdk-Date` such as 20240102T030405Z and `now` (epoch seconds). Raises ErrorResponse."""
    try:
        return abs(datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp() - now)
    except ValueError as error:
        raise incorrect_signature("x-sdk-date is not a date") from error


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
    text = f"{ALGORITHM}\n{headers['x-sdk-date']}\n{hashlib.sha256(canonical).hexdigest()}"
    expected = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, authorization.signature)


def canonical_request(
    method: str, target: str, headers: Mapping[str, str], signed: tuple[str, ...], body: bytes
) -> bytes:
    """The bytes that are hashed; header values are taken as received, UTF-8 with other bytes as surrogates."""
    path, _, query = target.partition("?")
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in signed)
    parts = [method, _path(path), _query(query), lines, ";".join(signed), hashlib.sha256(body).hexdigest()]
    return "\n".join(parts).encode("utf-8", "surrogateescape")


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

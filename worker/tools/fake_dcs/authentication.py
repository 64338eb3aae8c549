"""Authentication of calls: fixed tokens, tokens of the IAM API, signatures; and the credentials that were issued.

Texts of the gateway: Huawei Cloud, API Request Signing Guide, Common Errors Related to IAM Authentication Information;
codes of DCS: DCS API Reference, Error Codes.
"""

from collections import Counter
from dataclasses import dataclass
from secrets import token_hex

from aiohttp import web

from worker.tools.fake_dcs.error_responses import ErrorResponse
from worker.tools.fake_dcs.settings import Auth
from worker.tools.fake_dcs.signature import Authorization, is_signed_by, read_authorization, seconds_off


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


class IssuedCredentials:
    """All tokens and temporary keys since the last reset."""

    def __init__(self) -> None:
        self.tokens: dict[str, IssuedToken] = {}
        self.keys: dict[str, TemporaryAccessKey] = {}
        self.metadata_tokens: dict[str, float] = {}
        self._wrong: Counter[str] = Counter()
        self._locked: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Issued tokens={len(self.tokens)} keys={len(self.keys)}>"

    def token(self, auth: Auth, project: str, now: float) -> tuple[str, IssuedToken]:
        """Issue a token for a project; the older ones stay valid."""
        text = token_hex(64)
        secret = auth.password.get_secret_value()
        self.tokens[text] = token = IssuedToken(project, now + auth.token_seconds, auth.user, secret)
        return text, token

    def key(self, auth: Auth, now: float) -> TemporaryAccessKey:
        """Issue a temporary access key."""
        expires = now + auth.temporary_key_seconds
        key = TemporaryAccessKey(token_hex(10).upper(), token_hex(20), token_hex(64), expires)
        self.keys[key.access_key] = key
        return key

    def metadata_token(self, seconds: float, now: float) -> str:
        """Issue a token of the metadata service, valid for `seconds`."""
        text = token_hex(28)
        self.metadata_tokens[text] = now + seconds
        return text

    def is_locked(self, account: str, now: float) -> bool:
        """Whether the account is locked because of too many wrong credentials."""
        return now < self._locked.get(account, 0.0)

    def record_attempt(self, auth: Auth, account: str, is_right: bool, now: float) -> None:
        """Count wrong credentials of an account, and lock it after too many in a row."""
        if is_right:
            del self._wrong[account]
            return
        self._wrong[account] += 1
        if auth.lock_after and self._wrong[account] >= auth.lock_after:
            self._locked[account] = now + auth.lock_seconds
            del self._wrong[account]


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A call whose credentials are to be checked: `project` is in its path, `now` is the service's time."""

    request: web.Request
    body: bytes
    project: str | None
    now: float


def check_credentials(auth: Auth, issued: IssuedCredentials, received: ReceivedRequest) -> None:
    """Raise the documented ErrorResponse unless the call has the credentials that the mode demands."""
    if auth.mode == "token":
        _check_token(received, auth.token.get_secret_value())
    elif auth.mode == "iam":
        _check_issued_token(received, auth, issued)
    elif auth.mode == "aksk":
        _check_signature(received, auth, issued)


def _check_token(received: ReceivedRequest, expected: str) -> None:
    if _token_of(received) != expected:
        raise ErrorResponse(401, "DCS.1001")


def _check_issued_token(received: ReceivedRequest, auth: Auth, issued: IssuedCredentials) -> None:
    token = issued.tokens.get(_token_of(received))
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


def _check_signature(received: ReceivedRequest, auth: Auth, issued: IssuedCredentials) -> None:
    headers = received.request.headers
    authorization = _authorization_of(received)
    access_key = authorization.access_key
    if issued.is_locked(access_key, received.now):
        raise _incorrect_signature("AK access failed to reach the limit,forbidden.")
    secret, security_token = _secrets_of(access_key, auth, issued, received.now)
    if _seconds_off(received) > auth.clock_tolerance:
        raise _incorrect_signature("signature expired, x-sdk-date differs from the time of the server")
    target = received.request.raw_path
    is_right = is_signed_by(secret, authorization, received.request.method, target, headers, received.body)
    issued.record_attempt(auth, access_key, is_right, received.now)
    if not is_right:
        raise _incorrect_signature("verify aksk signature fail")
    if security_token is not None and headers.get("X-Security-Token") != security_token:
        raise _incorrect_signature("verify security token fail")
    if received.project is not None and headers.get("X-Project-Id", received.project) != received.project:
        raise ErrorResponse(401, "DCS.1004")


def _authorization_of(received: ReceivedRequest) -> Authorization:
    try:
        return read_authorization(received.request.headers.get("Authorization", ""))
    except ValueError as error:
        raise _incorrect_signature("no signature found") from error


def _seconds_off(received: ReceivedRequest) -> float:
    try:
        return seconds_off(received.request.headers.get("X-Sdk-Date", ""), received.now)
    except ValueError as error:
        raise _incorrect_signature("x-sdk-date is not a date") from error


def _secrets_of(access_key: str, auth: Auth, issued: IssuedCredentials, now: float) -> tuple[str, str | None]:
    if access_key == auth.access_key:
        security_token = auth.security_token.get_secret_value() if auth.security_token else None
        return auth.secret_key.get_secret_value(), security_token
    key = issued.keys.get(access_key)
    if key is None:
        raise _incorrect_signature(f"Get secretKey failed,ak:{access_key},err:ak not exist")
    if now >= key.expires:
        raise _incorrect_signature("the temporary access key has expired")
    return key.secret_key, key.security_token


def _incorrect_signature(why: str) -> ErrorResponse:
    return ErrorResponse(401, "APIGW.0301", f"Incorrect IAM authentication information: {why}")

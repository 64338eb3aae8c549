"""Who may call: the three ways of authentication, each with the documented refusals.

Messages of the gateway: Huawei Cloud, API Request Signing Guide, Common Errors Related to IAM Authentication
Information; codes of DCS: DCS API Reference, Error Codes.
"""

from dataclasses import dataclass

from aiohttp import web

from worker.tools.standin.issued import Issued
from worker.tools.standin.refusal import Refusal
from worker.tools.standin.settings import Auth
from worker.tools.standin.signature import Authorization, is_signed_by, read_authorization, seconds_off


@dataclass(frozen=True, slots=True)
class Claim:
    """One call that says it may: `project` is the one in its path, `now` the service's clock."""

    request: web.Request
    body: bytes
    project: str | None
    now: float


def demand(auth: Auth, issued: Issued, claim: Claim) -> None:
    """Raise the documented Refusal unless the call carries what the mode demands."""
    if auth.mode == "token":
        _demand_token(claim, auth.token.get_secret_value())
    elif auth.mode == "iam":
        _demand_issued_token(claim, auth, issued)
    elif auth.mode == "aksk":
        _demand_signature(claim, auth, issued)


def _demand_token(claim: Claim, right: str) -> None:
    if _token_of(claim) != right:
        raise Refusal(401, "DCS.1001")


def _demand_issued_token(claim: Claim, auth: Auth, issued: Issued) -> None:
    token = issued.tokens.get(_token_of(claim))
    if token is None:
        raise Refusal(401, "DCS.1001")
    if not token.outlives(auth, claim.now):
        raise Refusal(401, "APIGW.0307")
    if claim.project not in {None, token.project}:
        raise Refusal(401, "DCS.1004")


def _token_of(claim: Claim) -> str:
    token = claim.request.headers.get("X-Auth-Token")
    if not token:
        raise Refusal(401, "DCS.1003")
    return token


def _demand_signature(claim: Claim, auth: Auth, issued: Issued) -> None:
    headers = claim.request.headers
    authorization = _authorization_of(claim)
    access_key = authorization.access_key
    if issued.is_locked(access_key, claim.now):
        raise _incorrect("AK access failed to reach the limit,forbidden.")
    secret, security_token = _secrets_of(access_key, auth, issued, claim.now)
    if _seconds_off(claim) > auth.clock_tolerance:
        raise _incorrect("signature expired, x-sdk-date differs from the time of the server")
    target = claim.request.raw_path
    right = is_signed_by(secret, authorization, claim.request.method, target, headers, claim.body)
    issued.tried(auth, access_key, right, claim.now)
    if not right:
        raise _incorrect("verify aksk signature fail")
    if security_token is not None and headers.get("X-Security-Token") != security_token:
        raise _incorrect("verify security token fail")
    if claim.project is not None and headers.get("X-Project-Id", claim.project) != claim.project:
        raise Refusal(401, "DCS.1004")


def _authorization_of(claim: Claim) -> Authorization:
    try:
        return read_authorization(claim.request.headers.get("Authorization", ""))
    except ValueError as wrong:
        raise _incorrect("no signature found") from wrong


def _seconds_off(claim: Claim) -> float:
    try:
        return seconds_off(claim.request.headers.get("X-Sdk-Date", ""), claim.now)
    except ValueError as wrong:
        raise _incorrect("x-sdk-date is not a date") from wrong


def _secrets_of(access_key: str, auth: Auth, issued: Issued, now: float) -> tuple[str, str | None]:
    if access_key == auth.access_key:
        security_token = auth.security_token.get_secret_value() if auth.security_token else None
        return auth.secret_key.get_secret_value(), security_token
    key = issued.keys.get(access_key)
    if key is None:
        raise _incorrect(f"Get secretKey failed,ak:{access_key},err:ak not exist")
    if now >= key.expires:
        raise _incorrect("the temporary access key has expired")
    return key.secret_key, key.security_token


def _incorrect(why: str) -> Refusal:
    return Refusal(401, "APIGW.0301", f"Incorrect IAM authentication information: {why}")

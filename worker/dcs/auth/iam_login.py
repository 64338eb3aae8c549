"""The login at IAM: the call that gets a project-scoped token for a password, and the pauses after a refused password.

Sources: IAM API Reference, Obtaining a User Token Through Password Authentication; IAM User Guide, "Login
Authentication Policy".
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import httpx2
from pydantic import BaseModel, ValidationError

from worker.dcs.auth.cached_credential import no_credential
from worker.dcs.auth.signing import VISIBLE_ASCII, skew
from worker.dcs.http_client import HEADERS, HttpClient, new_request
from worker.policy import backoff
from worker.policy.call_result import CallError, CallStatus

UNKNOWN_LIFE_SECONDS: Final = 600.0
"""How long a token is used whose reply does not say how long it is valid."""
NOTICEABLE_SKEW_SECONDS: Final = 5.0
FIRST_PAUSE_SECONDS: Final = 60.0
PAUSE_GROWTH: Final = 4.0
LONGEST_PAUSE_SECONDS: Final = 900.0
_TRANSIENT_STATUSES: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Account:
    """Whose password it is, and where it is sent."""

    endpoint: str
    user: str
    domain: str


@dataclass(frozen=True, slots=True, repr=False)
class IamToken:
    """A token, and the seconds that it is valid from the moment it was asked for."""

    token: str
    seconds: float


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """IAM gives no token to this user with this password for this project. Which of them is wrong it need not say."""

    status: int
    reason: str


class _Token(BaseModel):
    issued_at: datetime | None = None
    expires_at: datetime


class _TokenReply(BaseModel):
    token: _Token


async def log_in(
    http: HttpClient, account: Account, password: str, project_id: str, now: float
) -> IamToken | TokenRefused | CallError:
    """Ask IAM for a token, once. A CallError is transient."""
    http.redactor.add((password,))
    reply = await http.send(_request(account, password, project_id))
    if isinstance(reply, CallError):
        return no_credential(CallStatus.IAM_UNAVAILABLE, f"IAM gave no token ({reply.label})", reply.retry_after)
    if 200 <= reply.status_code < 300:
        return _issued(http, reply, now)
    if 400 <= reply.status_code < 500 and reply.status_code not in _TRANSIENT_STATUSES:
        said = http.error_of(reply).error_msg or "no reason given"
        return TokenRefused(reply.status_code, " ".join(said.split())[:200])
    asked = backoff.retry_after(reply.headers.get("retry-after"), now)
    return no_credential(CallStatus.IAM_UNAVAILABLE, f"IAM gave no token (HTTP {reply.status_code})", asked)


def _request(account: Account, password: str, project_id: str) -> httpx2.Request:
    user = {"name": account.user, "password": password, "domain": {"name": account.domain}}
    identity = {"methods": ["password"], "password": {"user": user}}
    body = {"auth": {"identity": identity, "scope": {"project": {"id": project_id}}}}
    url = f"{account.endpoint}/v3/auth/tokens?nocatalog=true"
    return new_request("token", "POST", url, HEADERS, json.dumps(body).encode())


def _issued(http: HttpClient, reply: httpx2.Response, now: float) -> IamToken | CallError:
    token = reply.headers.get("x-subject-token", "")
    if not VISIBLE_ASCII.fullmatch(token):
        return no_credential(CallStatus.IAM_UNAVAILABLE, f"IAM answered {reply.status_code} without a token")
    http.redactor.add((token,))
    return IamToken(token, _life(reply, now))


def _life(reply: httpx2.Response, now: float) -> float:
    # The time that it was issued at is best one of IAM's own, so that this machine's clock need not be right.
    try:
        token = _TokenReply.model_validate_json(reply.content).token
        issued = token.issued_at or datetime.fromtimestamp(now - _ahead(reply, now), UTC)
        life = (token.expires_at - issued).total_seconds()
    except (ValidationError, TypeError, OverflowError):
        return UNKNOWN_LIFE_SECONDS
    return life if life > 0 else UNKNOWN_LIFE_SECONDS


def _ahead(reply: httpx2.Response, now: float) -> float:
    """Seconds by which this clock is ahead of IAM's, as far as a header that has whole seconds can tell."""
    ahead = skew(reply.headers.get("date"), now)
    return 0.0 if ahead is None or abs(ahead) <= NOTICEABLE_SKEW_SECONDS else ahead - 1.0


class PasswordLockout:
    """How long a refused password is not tried again, so that IAM does not lock the account. Times are epoch seconds.

    IAM locks an account after 3 to 10 wrong passwords, by default 5, within 15 minutes at least. The pauses of 1, 4,
    15, 15, ... minutes make three calls in the first 15 minutes, a fourth if a project was blamed before, and one in 15
    minutes from then on. That is for one replica: several together may exceed what IAM allows.
    """

    def __init__(self, random_unit: Callable[[], float]) -> None:
        self._random_unit = random_unit
        self._refused: set[str] = set()
        self.refusals = 0
        self.until = 0.0

    def wait(self, password: str, now: float) -> float:
        """Seconds until `password` may be tried; 0 for one that was not refused yet."""
        return max(0.0, self.until - now) if password in self._refused else 0.0

    def refused(self, password: str, now: float) -> None:
        """IAM refused `password`."""
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * PAUSE_GROWTH ** min(self.refusals, 8))
        self.until = now + pause * (1.0 + self._random_unit() / 4)
        self.refusals += 1
        self._refused.add(password)

    def accepted(self) -> None:
        """IAM accepted a password: all that were refused before may be tried again."""
        self.refusals = 0
        self.until = 0.0
        self._refused.clear()

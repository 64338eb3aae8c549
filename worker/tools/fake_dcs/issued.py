"""Credentials that the fake DCS gave out, and accounts it locked because of wrong ones."""

from collections import Counter
from dataclasses import dataclass
from secrets import token_hex

from worker.tools.fake_dcs.settings import Auth


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A project-scoped token. It dies with its time (epoch seconds), and with the password it was issued for."""

    project: str
    expires: float
    user: str
    password: str

    def is_valid(self, auth: Auth, now: float) -> bool:
        """Whether the token still holds."""
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
        """Give out temporary keys."""
        expires = now + auth.temporary_key_seconds
        key = TemporaryAccessKey(token_hex(10).upper(), token_hex(20), token_hex(64), expires)
        self.keys[key.access_key] = key
        return key

    def metadata_token(self, seconds: float, now: float) -> str:
        """Give out a token that opens the metadata service for so many seconds."""
        text = token_hex(28)
        self.metadata_tokens[text] = now + seconds
        return text

    def is_locked(self, account: str, now: float) -> bool:
        """Whether the account met too many wrong credentials lately."""
        return now < self._locked.get(account, 0.0)

    def record_attempt(self, auth: Auth, account: str, is_right: bool, now: float) -> None:
        """Count a wrong credential of an account, and lock it after too many in a row."""
        if is_right:
            del self._wrong[account]
            return
        self._wrong[account] += 1
        if auth.lock_after and self._wrong[account] >= auth.lock_after:
            self._locked[account] = now + auth.lock_seconds
            del self._wrong[account]

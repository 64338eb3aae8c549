"""The four ways to prove who calls, made from plain values."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, assert_never

from pydantic import SecretStr

from worker.dcs.auth.auth_method import Credentials, ReadyToken
from worker.dcs.auth.cached_credential import Timing
from worker.dcs.auth.iam import IAM_TIMEOUT_SECONDS, Changed, IamTokens
from worker.dcs.auth.iam_login import Account
from worker.dcs.auth.platform_keys import METADATA_ADDRESS, METADATA_TIMEOUT_SECONDS, Metadata, PlatformKeys, Profile
from worker.dcs.auth.signing import Keys, KeySigner
from worker.dcs.http_client import HttpClient

Way = Literal["token", "keys", "iam", "platform"]


class Secrets(Protocol):
    """The secrets that are valid together at one moment; None for those not configured."""

    @property
    def auth_token(self) -> SecretStr | None:
        """A ready token."""

    @property
    def access_key(self) -> SecretStr | None:
        """The access key."""

    @property
    def secret_key(self) -> SecretStr | None:
        """The secret key that belongs to it."""

    @property
    def security_token(self) -> SecretStr | None:
        """The token that belongs to temporary keys."""

    @property
    def iam_password(self) -> SecretStr | None:
        """The password of the user of IAM."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What credentials are made of besides secrets."""

    account: Account | None = None
    """For `iam`: the user and the address."""
    profile: Path | None = None
    """For `platform`: the profile file, if there is one."""
    metadata: str = METADATA_ADDRESS
    """For `platform`: base URL of the metadata service."""


def credentials_for(
    way: Way,
    current: Callable[[], Secrets],
    surroundings: Surroundings,
    http_client: Callable[[float], HttpClient],
    *,
    changed: Changed = lambda _: None,
    timing: Timing | None = None,
) -> Credentials:
    """The credentials of one way, to be closed by `aclose`.

    `current` gives the secrets of now and is asked at every need; `http_client` makes one with a deadline in seconds;
    `changed` is told why no call can be authorised any more, and None when that is over.
    """
    timing = timing or Timing()
    match way:
        case "token":
            return ReadyToken(lambda: _text(current().auth_token))
        case "keys":
            return KeySigner(lambda: _keys(current()), now=timing.now)
        case "iam":
            assert surroundings.account is not None
            tokens = http_client(IAM_TIMEOUT_SECONDS)
            return IamTokens(
                surroundings.account, lambda: _text(current().iam_password), tokens, changed=changed, timing=timing
            )
        case "platform":
            profile = Profile(surroundings.profile) if surroundings.profile is not None else None
            service = Metadata(http_client(METADATA_TIMEOUT_SECONDS), surroundings.metadata, timing)
            return PlatformKeys(profile, service, timing)
        case _:
            assert_never(way)


def _keys(secrets: Secrets) -> Keys:
    token = secrets.security_token
    return Keys(_text(secrets.access_key), _text(secrets.secret_key), token.get_secret_value() if token else None)


def _text(secret: SecretStr | None) -> str:
    assert secret is not None, "the configuration lets no worker start without the secrets of its way"
    return secret.get_secret_value()

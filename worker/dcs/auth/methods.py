"""The four authentication methods, made from plain values.

Each method stands in a module by itself.
"""

from collections.abc import Callable
from typing import Literal, assert_never

from worker.dcs.auth.auth_method import AuthMethod, ReadyToken, Secrets, secret_text, text_of
from worker.dcs.auth.cached_credential import Timing
from worker.dcs.auth.iam import IAM_TIMEOUT_SECONDS, IamTokens
from worker.dcs.auth.iam_login import Account
from worker.dcs.auth.platform_keys import METADATA_ADDRESS, Profile, platform_signer
from worker.dcs.auth.signing import Keys, KeySigner
from worker.dcs.auth.workload_identity import Identity
from worker.dcs.http_client import HttpClient

AuthMethodName = Literal["token", "keys", "iam", "platform"]


def auth_method(
    name: AuthMethodName,
    current: Callable[[], Secrets],
    http_client: Callable[[float], HttpClient],
    *,
    account: Account | None = None,
    platform: Identity | Profile | None = None,
    metadata_address: str = METADATA_ADDRESS,
    timing: Timing | None = None,
) -> AuthMethod:
    """The authentication method of this name, to be closed by `aclose`.

    - `current` gives the present secrets, and is asked at every need.
    - `http_client` makes a client with a timeout in seconds.
    - `account`: for `iam`.
    - `platform`: for `platform`, the identity of this workload or the profile file; None: the metadata service of the
      server, at `metadata_address`.
    """
    timing = timing or Timing()
    match name:
        case "token":
            return ReadyToken(secret_text(current, "auth_token"))
        case "keys":
            return KeySigner(lambda: _keys(current()), now=timing.now)
        case "iam":
            assert account is not None
            http = http_client(IAM_TIMEOUT_SECONDS)
            return IamTokens(account, secret_text(current, "iam_password"), http, timing)
        case "platform":
            return platform_signer(platform, http_client, metadata_address, timing)
        case _:
            assert_never(name)


def _keys(secrets: Secrets) -> Keys:
    """The access keys among the secrets of one moment."""
    token = secrets.get("security_token")
    return Keys(
        text_of(secrets, "access_key"), text_of(secrets, "secret_key"), token.get_secret_value() if token else None
    )

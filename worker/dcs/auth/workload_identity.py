"""Keys for an identity token of the workload: CCE pod identity, OIDC of the new IAM (STS), OIDC of the old IAM.

The platform rotates the files of the tokens, so they are read at each fetch. Sources: huaweicloudsdkcore 3.1.219,
auth/internal.py and auth/provider.py; CCE User Guide, "Pod Identity"; STS API, AssumeAgencyWithOIDC; IAM API, Obtaining
a Scoped Token with OpenID Connect, Obtaining Temporary Access Keys Using a Token.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import httpx2

from worker.dcs.auth.cached_credential import Timing
from worker.dcs.auth.signing import VISIBLE_ASCII
from worker.dcs.auth.temporary_keys import KeySource
from worker.dcs.http_client import HttpClient
from worker.policy.call_result import CallStatus

POD_IDENTITY_TIMEOUT_SECONDS: Final = 5.0
"""For its one call."""
OIDC_TIMEOUT_SECONDS: Final = 6.0
"""For each call of STS or IAM."""
FEDERATION_SECONDS: Final = 21_600
"""Life of the keys that are asked of the old IAM, as by the SDK."""
MAX_TOKEN_CHARACTERS: Final = 65_536


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """CCE pod identity: `url` of the agent that takes the token for keys."""

    url: str
    token_file: Path


@dataclass(frozen=True, slots=True)
class OidcAgency:
    """OIDC of the new IAM: STS gives keys of an agency for the token, which is a text or in a file.

    `optional`: members of the body that are sent if they are set.
    """

    endpoint: str
    provider_urn: str
    agency_urn: str
    token: str | Path = field(repr=False)
    session_name: str
    duration_seconds: int
    optional: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Federation:
    """OIDC of the old IAM: the token brings one of IAM, and that brings keys. `endpoint`: of IAM, empty if unknown."""

    endpoint: str
    idp_id: str
    token_file: Path


Identity = PodIdentity | OidcAgency | Federation
IdentityT = TypeVar("IdentityT", bound=Identity)


def key_source(identity: Identity, http_client: Callable[[float], HttpClient], timing: Timing) -> KeySource:
    """The service that gives keys for an identity; `http_client` makes one with a timeout in seconds."""
    match identity:
        case PodIdentity():
            return _PodIdentityAgent(identity, http_client(POD_IDENTITY_TIMEOUT_SECONDS), timing)
        case OidcAgency():
            return _Sts(identity, http_client(OIDC_TIMEOUT_SECONDS), timing)
        case Federation():
            return _OldIam(identity, http_client(OIDC_TIMEOUT_SECONDS), timing)


class _TokenExchange(KeySource, Generic[IdentityT]):
    """A service that gives keys for the token of an identity."""

    def __init__(self, identity: IdentityT, http: HttpClient, timing: Timing) -> None:
        super().__init__(http, timing)
        self._identity = identity

    def _read_token(self, token: str | Path) -> str:
        if isinstance(token, str):
            return token
        try:
            with token.open(encoding="ascii") as stream:
                text = stream.read(MAX_TOKEN_CHARACTERS + 1).strip()
        except OSError as error:
            found = f"the token file {token} cannot be read ({error.strerror})"
            raise self.failure(found, CallStatus.NO_CREDENTIALS) from None
        except ValueError:
            text = ""
        if not VISIBLE_ASCII.fullmatch(text) or len(text) > MAX_TOKEN_CHARACTERS:
            raise self.failure(f"the token file {token} holds no token", CallStatus.NO_CREDENTIALS)
        return text


class _PodIdentityAgent(_TokenExchange[PodIdentity]):
    name = "the pod identity agent"
    unavailable = CallStatus.METADATA_UNAVAILABLE

    async def _ask(self) -> httpx2.Response:
        token = self._read_token(self._identity.token_file)
        return await self._post(self._identity.url, {"Authorization": token}, {}, token)


class _Sts(_TokenExchange[OidcAgency]):
    name = "STS"
    unavailable = CallStatus.IAM_UNAVAILABLE

    async def _ask(self) -> httpx2.Response:
        asked = self._identity
        token = self._read_token(asked.token)
        body = {
            "provider_urn": asked.provider_urn,
            "agency_urn": asked.agency_urn,
            "agency_session_name": asked.session_name,
            "id_token": token,
            "duration_seconds": asked.duration_seconds,
            **asked.optional,
        }
        return await self._post(f"{asked.endpoint}/v5/agencies/assume-with-oidc", {}, body, token)


class _OldIam(_TokenExchange[Federation]):
    name = "IAM"
    unavailable = CallStatus.IAM_UNAVAILABLE

    async def _ask(self) -> httpx2.Response:
        asked = self._identity
        if not asked.endpoint:
            found = "the address of IAM for this region is not known: set WORKER_IAM_ENDPOINT"
            raise self.failure(found, CallStatus.NO_CREDENTIALS)
        token = self._read_token(asked.token_file)
        body = {"auth": {"id_token": {"id": token}}}
        url = f"{asked.endpoint}/v3.0/OS-AUTH/id-token/tokens"
        reply = await self._post(url, {"X-Idp-Id": asked.idp_id}, body, token)
        iam_token = reply.headers.get("x-subject-token", "")
        if not VISIBLE_ASCII.fullmatch(iam_token):
            raise self.failure(f"IAM answered {reply.status_code} without a token")
        shown = {"id": iam_token, "duration_seconds": FEDERATION_SECONDS}
        identity = {"auth": {"identity": {"methods": ["token"], "token": shown}}}
        return await self._post(f"{asked.endpoint}/v3.0/OS-CREDENTIAL/securitytokens", {}, identity, iam_token)

"""The variables by which a platform gives its workloads an identity; they count with `WORKER_CREDENTIALS=platform`.

Their names are the platform's: CCE sets them in pods, and the official SDK reads them (huaweicloudsdkcore 3.1.219,
auth/provider.py). Each is read from the same sources as a setting.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from worker.config import regions, urls
from worker.config.settings import FilePath, Header, Line
from worker.config.sources import SettingsSources, problems_by_field
from worker.config.values import LINE, items, must_be, plain_text, whole_number

IdentityName = Literal["pod identity", "OIDC", "OIDC of the old IAM"]

AGENT_URL: Final = "HC_CONTAINER_CREDENTIALS_FULL_URI"
AGENT_TOKEN_FILE: Final = "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE"  # noqa: S105 - the name of a variable
STS_ENDPOINT: Final = "HUAWEICLOUD_SDK_STS_ENDPOINT"
IDP_ID: Final = "HUAWEICLOUD_SDK_IDP_ID"
OIDC: Final = "HUAWEICLOUD_OIDC_"
USES_IAM: Final = "OIDC of the old IAM"
IDENTITIES: Final[Mapping[IdentityName, tuple[tuple[str, ...], ...]]] = {
    "pod identity": ((AGENT_URL,), (AGENT_TOKEN_FILE,)),
    "OIDC": ((f"{OIDC}PROVIDER_URN",), (f"{OIDC}AGENCY_URN",), (f"{OIDC}TOKEN_FILE", f"{OIDC}ID_TOKEN")),
    USES_IAM: ((IDP_ID,), ("HUAWEICLOUD_SDK_ID_TOKEN_FILE",)),
}
"""The kinds of identity in the order in which they are used, each with what it needs: one variable of each group."""


class PlatformVariables(BaseModel):
    """The variables, and the first identity that is complete; None: profile file or metadata."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    identity: IdentityName | None = None
    agent_url: Annotated[str | None, BeforeValidator(urls.agent_url)] = Field(None, alias=AGENT_URL)
    agent_token_file: FilePath = Field(None, alias=AGENT_TOKEN_FILE)
    provider_urn: Line = Field(None, alias=f"{OIDC}PROVIDER_URN")
    agency_urn: Line = Field(None, alias=f"{OIDC}AGENCY_URN")
    id_token: Header = Field(None, alias=f"{OIDC}ID_TOKEN")
    oidc_token_file: FilePath = Field(None, alias=f"{OIDC}TOKEN_FILE")
    session_name: Annotated[str, LINE] = Field("oidc-sts-session", alias=f"{OIDC}SESSION_NAME")
    duration_seconds: Annotated[int, whole_number(900, 43_200)] = Field(3_600, alias=f"{OIDC}DURATION_SECONDS")
    policy: str | None = Field(None, alias=f"{OIDC}POLICY")
    policy_ids: Annotated[tuple[str, ...], BeforeValidator(items)] = Field((), alias=f"{OIDC}POLICY_IDS")
    sts_endpoint: Annotated[str | None, BeforeValidator(urls.service_url)] = Field(None, alias=STS_ENDPOINT)
    idp_id: Annotated[str | None, must_be("visible ASCII characters", syntax="[!-~]+")] = Field(None, alias=IDP_ID)
    id_token_file: FilePath = Field(None, alias="HUAWEICLOUD_SDK_ID_TOKEN_FILE")

    @field_validator("*", mode="before")
    @classmethod
    def _text(cls, value: str | None) -> str | None:
        return plain_text(value) if value is not None else None


def read_platform(sources: SettingsSources, *, is_chosen: bool, region: str) -> tuple[PlatformVariables, list[str]]:
    """The variables if the platform is chosen, and their problems."""
    if not is_chosen:
        return PlatformVariables(), []
    found = {name: value for name in _names() if (value := sources.find(name)) is not None}
    problems = [f"{name}: {value.problem}" for name, value in found.items() if value.problem is not None]
    texts = {name: value.text for name, value in found.items() if value.problem is None}
    identity: IdentityName | None = None
    for name, groups in IDENTITIES.items():
        present = [it for group in groups for it in group if it in found]
        missing = [group[0] for group in groups if not any(it in found for it in group)]
        if not missing:
            identity = identity or name
        elif present:
            problems += [f"{it}: is missing, {present[0]} needs it" for it in missing]
    if identity == "OIDC" and STS_ENDPOINT not in found:
        if (endpoint := regions.sts_endpoint(region)) is None:
            problems.append(f"{STS_ENDPOINT}: is missing, the address of STS for {region!r} is not known")
        else:
            texts[STS_ENDPOINT] = endpoint
    try:
        return PlatformVariables.model_validate({**texts, "identity": identity}), problems
    except ValidationError as error:
        problems += [f"{name}: {problem}" for name, problem in problems_by_field(error).items()]
        return PlatformVariables(), problems


def unused_identities(sources: SettingsSources, chosen: IdentityName | None, *, is_chosen: bool) -> list[str]:
    """One line for each identity with variables that are set but not used, and after the semicolon what to do."""
    lines = []
    for identity, groups in IDENTITIES.items():
        name = next((name for group in groups for name in group if sources.find(name)), None)
        if name is None or identity == chosen:
            continue
        if not is_chosen:
            lines.append(f"{name}: is not used; set WORKER_CREDENTIALS=platform alone to use {identity}")
        elif chosen is not None:
            lines.append(f"{name}: is not used, {chosen} goes first; unset the variables of one of the two")
    return lines


def _names() -> list[str]:
    return [entry.alias for entry in PlatformVariables.model_fields.values() if entry.alias is not None]

"""Exactly one way to authenticate to DCS, and that one complete."""

from collections.abc import Mapping

from worker.config.settings import SDK_VARIABLES, WAYS, CredentialWay, variable
from worker.config.sources import Found

_MANDATORY: Mapping[CredentialWay, tuple[str, ...]] = {
    "token": ("auth_token",),
    "keys": ("access_key", "secret_key"),
    "iam": ("iam_user", "iam_password", "iam_domain"),
    "platform": (),
}
_NONE = (
    "credentials: none for DCS are configured; set exactly one of WORKER_AUTH_TOKEN; WORKER_ACCESS_KEY and "
    "WORKER_SECRET_KEY (or HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK), with WORKER_SECURITY_TOKEN (or "
    "HUAWEICLOUD_SDK_SECURITY_TOKEN) if they are temporary; WORKER_IAM_USER, WORKER_IAM_PASSWORD and "
    "WORKER_IAM_DOMAIN, with WORKER_IAM_ENDPOINT if it is not Huawei Cloud's own; WORKER_CREDENTIALS=platform"
)


def chosen_ways(found: Mapping[str, Found]) -> list[CredentialWay]:
    """Return the ways that what is set begins; an address of IAM begins one only when nothing else does."""
    ways = [way for way, fields in WAYS.items() if any(field in found for field in fields)]
    return ways or (["iam"] if "iam_endpoint" in found else [])


def credential_problems(found: Mapping[str, Found]) -> list[str]:
    """Return the problems with what is set, by presence alone: a wrong value is set too."""
    ways = chosen_ways(found)
    if not ways:
        return [_NONE]
    if len(ways) > 1:
        names = [found[field].variable for way in ways for field in WAYS[way] if field in found]
        return [f"credentials: exactly one way to authenticate must be configured, but {_listed(names)} are set"]
    missing = [_name(field, found) for field in _MANDATORY[ways[0]] if field not in found]
    present = [found[field].variable for field in (*WAYS[ways[0]], "iam_endpoint") if field in found]
    return [f"{name}: is missing, {present[0]} needs it" for name in missing]


def _name(field: str, found: Mapping[str, Found]) -> str:
    """Name a missing key as the keys that are there are named."""
    from_sdk = any(it.variable in SDK_VARIABLES.values() for it in found.values())
    return SDK_VARIABLES[field] if from_sdk and field in SDK_VARIABLES else variable(field)


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"

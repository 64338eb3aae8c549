"""The regions of Huawei Cloud that have DCS, and the default addresses of their services.

Sources: the Python packages `huaweicloudsdkdcs` (v2/region/dcs_region.py), `huaweicloudsdkcore` (auth/endpoint.py,
auth/internal.py) and `huaweicloudsdkiam` (v3/region), all 3.1.219. Those of the SDK that partners run, eu-west-0
(Orange) and ru-moscow-1 (Sber), are left out: partners' clouds use other domains, which must be configured.
"""

DCS_REGIONS = frozenset(
    {
        "ae-ad-1", "af-north-1", "af-south-1", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3",
        "ap-southeast-4", "ap-southeast-5", "cn-east-2", "cn-east-3", "cn-east-4", "cn-east-5",
        "cn-north-1", "cn-north-2", "cn-north-4", "cn-north-9", "cn-north-11", "cn-north-12",
        "cn-south-1", "cn-south-2", "cn-south-4", "cn-southwest-2", "cn-southwest-3",
        "eu-west-101", "la-north-2", "la-south-2", "me-east-1", "my-kualalumpur-1", "na-mexico-1",
        "ru-northwest-2", "sa-brazil-1", "tr-west-1",
    }
)  # fmt: skip

REGIONS_WITHOUT_OWN_IAM = frozenset(
    {"af-north-1", "ap-southeast-5", "cn-north-11", "cn-south-4", "cn-southwest-3", "ru-northwest-2"}
)

REGIONS_WITH_STS = frozenset(
    {
        "af-south-1", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "cn-east-3",
        "cn-north-4", "cn-south-1", "cn-southwest-2", "la-south-2", "sa-brazil-1", "tr-west-1",
    }
)  # fmt: skip

EUROPEAN_SITE = "eu-west-1"
"""Beginning of the regions of the European site, which has its own domain."""


def dcs_endpoint(region: str) -> str | None:
    """Return the base URL of DCS in a region; None for one that is not known to be Huawei's own."""
    return f"https://dcs.{region}.{_domain(region)}" if _is_known(region) else None


def iam_endpoint(region: str) -> str | None:
    """Return the base URL of IAM for a region; None for one that is not known to be Huawei's own.

    Such a region may belong to a partner's cloud: its passwords must not be sent to Huawei's.
    """
    if not _is_known(region):
        return None
    own = "" if region in REGIONS_WITHOUT_OWN_IAM else f"{region}."
    return f"https://iam.{own}{_domain(region)}"


def sts_endpoint(region: str) -> str | None:
    """Return the base URL of STS in a region; None for one that is not known to have it."""
    return f"https://sts.{region}.{_domain(region)}" if region in REGIONS_WITH_STS else None


def _is_known(region: str) -> bool:
    return region in DCS_REGIONS or region.startswith(EUROPEAN_SITE)


def _domain(region: str) -> str:
    return "myhuaweicloud.eu" if region.startswith(EUROPEAN_SITE) else "myhuaweicloud.com"

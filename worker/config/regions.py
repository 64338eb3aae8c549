"""The regions of Huawei Cloud that have DCS, and the default addresses of their services. Little code: it is data.

Sources: the Python packages `huaweicloudsdkdcs` (v2/region/dcs_region.py) and `huaweicloudsdkcore`
(auth/endpoint.py, auth/internal.py), both 3.1.219. Partners' clouds use other domains, and the Terraform provider uses
`myhuaweicloud.eu` for regions that begin with `eu-west-1`: their endpoints must be configured.
"""

import re

REGION_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")

DCS_REGIONS = frozenset(
    {
        "ae-ad-1", "af-north-1", "af-south-1", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3",
        "ap-southeast-4", "ap-southeast-5", "cn-east-2", "cn-east-3", "cn-east-4", "cn-east-5",
        "cn-north-1", "cn-north-2", "cn-north-4", "cn-north-9", "cn-north-11", "cn-north-12",
        "cn-south-1", "cn-south-2", "cn-south-4", "cn-southwest-2", "cn-southwest-3", "eu-west-0",
        "eu-west-101", "la-north-2", "la-south-2", "me-east-1", "my-kualalumpur-1", "na-mexico-1",
        "ru-moscow-1", "ru-northwest-2", "sa-brazil-1", "tr-west-1",
    }
)  # fmt: skip

REGIONS_WITHOUT_OWN_IAM = frozenset(
    {
        "af-north-1", "ap-southeast-5", "cn-north-11", "cn-south-4", "cn-southwest-3",
        "eu-west-101", "ru-northwest-2",
    }
)  # fmt: skip


def dcs_endpoint(region: str) -> str:
    """Return the base URL of DCS in a known region."""
    return f"https://dcs.{region}.myhuaweicloud.com"


def iam_endpoint(region: str) -> str | None:
    """Return the base URL of IAM for a region; None for an unknown region.

    An unknown region may belong to a partner's cloud: its passwords must not be sent to Huawei's.
    """
    if region not in DCS_REGIONS:
        return None
    if region in REGIONS_WITHOUT_OWN_IAM:
        return "https://iam.myhuaweicloud.com"
    return f"https://iam.{region}.myhuaweicloud.com"

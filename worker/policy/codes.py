"""Which answer of the service means what: one table, read from the most to the least particular.

Meanings: DCS API reference, "Error Codes"; API Gateway user guide, "Error Codes". A code stands under
`DCS.4133`, its older twin `111400133` or with a blank inside; the gateway's under `APIG.` or `APIGW.`.
"""

import re
from typing import Final

from worker.policy.fault import Evidence, Remedy

_A, _R = Evidence.AMBIGUOUS, Evidence.REFUSED

Verdict = tuple[Evidence, Remedy]


def _rows(family: str, numbers: str, verdict: Verdict) -> dict[str, Verdict]:
    return {f"{family}.{number}": verdict for number in numbers.split()}


_BUSY: Final = "4017 4026 4049 4096 4097 4099 4104 4108 4111 4113 4114 4115 4116 4117 4118 4120 4121 4231 4975"

# (status, code) -> verdict. Only what differs from the verdict of its status stands here.
BY_CODE: Final[dict[tuple[int, str], Verdict]] = {
    (status, code): verdict
    for status, rows in (
        (
            400,
            # The service was busy and refused before acting.
            _rows("DCS", _BUSY, (_R, Remedy.RETRY))
            # Quota, zone capacity, subnet out of addresses: not the sender's mistake.
            | _rows("DCS", "4035 4036 4039 4054 4911", (_R, Remedy.CAPACITY)),
        ),
        (404, _rows("DCS", "5101", (_R, Remedy.RETRY))),  # "Create agency failed", try again later
        (503, _rows("APIG", "0613", (_R, Remedy.RETRY))),  # IAM unavailable: refused while authenticating
    )
    for code, verdict in rows.items()
}

BY_STATUS: Final[dict[int, Verdict]] = {
    401: (_R, Remedy.UNAUTHENTICATED),
    403: (_R, Remedy.FORBIDDEN),
    404: (_R, Remedy.NOT_FOUND),
    408: (_A, Remedy.RETRY),  # a time-out says nothing, whoever reports it
    429: (_R, Remedy.THROTTLED),
    499: (_A, Remedy.RETRY),
}

OF_PROJECT: Final = frozenset({"DCS.4035", "DCS.4036", "DCS.4039"})
"""Quotas of the whole project; zones and subnets that are full are the request's own choice."""
UNKNOWN_TASK: Final = "DCS.4133"
_PREFIXED: Final = re.compile(r"^(DCS|APIGW?)\.\s*(\d{4})$")
_OLDER: Final = re.compile(r"^111400(\d{3})$")


def normal(code: str | None) -> str | None:
    """The code in the spelling of the table; as it is where it follows no known spelling."""
    if code is None:
        return None
    code = code.strip()
    if match := _PREFIXED.match(code):
        return f"{match[1].removesuffix('W')}.{match[2]}"
    if match := _OLDER.match(code):
        return f"DCS.4{match[1]}"
    return code


def classify(status: int, code: str | None) -> Verdict:
    """What an answer that is no success proves, and what helps. Everything unknown is ambiguous."""
    known = BY_CODE.get((status, normal(code) or "")) or BY_STATUS.get(status)
    if known is not None:
        return known
    if 400 <= status < 500:
        return (_R, Remedy.REJECTED)
    return (_A, Remedy.RETRY)

"""Named faults: error answers that were seen in the field, each with status, body and source.

A name is a fault step like those of `faults`, also after `create then `. What the gateway answers, it answers to all
calls of DCS: a probability in `faults` is then that of each create, list, detail and job call.
"""

import json
from dataclasses import dataclass
from typing import Final

REQUEST_ID: Final = "REQUEST_ID"
"""Stands for the request id of the call."""
ACCESS_KEY: Final = "ACCESS_KEY"
"""Stands for the access key that signed the call."""


@dataclass(frozen=True, slots=True)
class NamedFault:
    """One error answer; `meets_all_calls`: list, detail and job calls get it too."""

    name: str
    status: int
    body: str
    source: str
    meets_all_calls: bool = True


def _gateway(name: str, status: int, code: str, text: str, source: str) -> NamedFault:
    body = {"error_msg": text, "error_code": code, "request_id": REQUEST_ID}
    return NamedFault(name, status, json.dumps(body), source)


def _refused_key(name: str, reason: str, source: str) -> NamedFault:
    return _gateway(name, 401, "APIGW.0301", f"Incorrect IAM authentication information: {reason}", source)


def _throttle(name: str, limit: str, source: str) -> NamedFault:
    text = f"The throttling threshold has been reached: policy {limit}"
    return _gateway(name, 429, "APIGW.0308", text, source)


_UNFIT: Final = "Do not support security group whitelist."
_REFUSED_V1: Final = {"error": {"code": "DCS.4872", "message": _UNFIT, "ext_message": None}}
_REFUSED_V2: Final = {"error_msg": _UNFIT, "error_code": "DCS.4872", "error_ext_msg": None}
_EXISTS: Final = "Security group rule already exists. Rule id is 0c399645-b33e-4913-979c-82b69af3751b."
_CONFLICT: Final = {"NeutronError": {"message": _EXISTS, "type": "SecurityGroupRuleExists", "detail": ""}}

NAMED_FAULTS: Final = (
    _refused_key(
        "stale signature",
        "calc aksk signature fail:signature expired, signature time:20260528T092752Z,server time:20260528T094410Z",
        "opentelekomcloud/terraform-provider-opentelekomcloud #3392",
    ),
    _refused_key("locked key", "AK access failed to reach the limit,forbidden.", "Huawei Cloud, API signing FAQ"),
    _refused_key("unknown key", f"ak {ACCESS_KEY} not exist", "jeessy2/ddns-go #844"),
    _throttle("throttle api", "api over ratelimit,limit:2000,time:1 minute", "Huawei Cloud CCE"),
    _throttle("throttle ip", "ip over ratelimit,limit:5,time:5 second", "Huawei Cloud API Explorer"),
    _throttle("throttle user", "user over ratelimit,limit:10", "Huawei Cloud CCE"),
    _gateway(
        *("backend away", 502, "APIGW.0201", "Service FUNCTIONGRAPH is currently unavailable"),
        "a public log of 2026-08-24",
    ),
    _gateway(
        *("unpublished api", 404, "APIGW.0101", "The API does not exist or has not been published in the environment"),
        "sbercloud-terraform/terraform-provider-sbercloud #306",
    ),
    NamedFault(
        *("refused v1", 400, json.dumps(_REFUSED_V1)),
        "FlexibleEngineCloud/terraform-provider-flexibleengine #779",
        meets_all_calls=False,
    ),
    NamedFault(
        *("refused v2", 400, json.dumps(_REFUSED_V2)),
        "huaweicloud/terraform-provider-huaweicloud #2370",
        meets_all_calls=False,
    ),
    NamedFault(
        *("task exists", 409, json.dumps(_CONFLICT)),
        "huaweicloud/terraform-provider-huaweicloud #252",
        meets_all_calls=False,
    ),
)
BY_NAME: Final = {fault.name: fault for fault in NAMED_FAULTS}

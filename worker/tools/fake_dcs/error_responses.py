"""Documented error responses: code, text and shape of the body.

DCS answers with `error_code`, `error_msg` and a null `error_ext_msg`; its gateway (codes `APIGW.`) with `request_id`
instead of the last; IAM with an object `error` whose code is a number.
"""

from collections.abc import Mapping
from typing import Any

DOCUMENTED_TEXTS = {
    "APIGW.0101": "The API does not exist or has not been published in the environment",
    "APIGW.0201": "Backend unavailable",
    "APIGW.0301": "Incorrect IAM authentication information",
    "APIGW.0307": "The token must be updated.",
    "APIGW.0601": "Internal server error",
    "APIGW.0613": "IAM unavailable",
    "DCS.1001": "Invalid token.",
    "DCS.1002": "Token expired.",
    "DCS.1003": "No token in the request.",
    "DCS.1004": "Project ID does not match the token.",
    "DCS.2003": "This role does not have the permission to perform this operation.",
    "DCS.4001": "The requested URL does not exist.",
    "DCS.4002": "Invalid project ID format.",
    "DCS.4004": "Empty request body.",
    "DCS.4005": "The message body contains invalid characters or is not in JSON format.",
    "DCS.4013": "Invalid vpc_id in the request.",
    "DCS.4014": "Invalid security_group_id in the request.",
    "DCS.4016": "Invalid subnet_id in the request.",
    "DCS.4035": "DCS instance quota of the tenant is insufficient.",
    "DCS.4133": "The migration task does not exist.",
    "DCS.4800": "Invalid parameter in the request.",
    "DCS.5000": "Internal service error.",
    "DCS.5001": "This request method is not allowed.",
    "DCS.5101": "Create agency failed.",
}


class ErrorResponse(Exception):  # noqa: N818 - it is an answer, not a defect
    """Raised to answer a call with this status and body."""

    def __init__(
        self, status: int, code: str, text: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status = status
        self.code = code
        self.text = DOCUMENTED_TEXTS.get(code, "The request is refused.") if text is None else text
        self.headers = dict(headers or {})
        super().__init__(f"{status} {code}: {self.text}")

    def body(self, request_id: str) -> dict[str, Any]:
        """The body in the shape of DCS or its gateway."""
        if self.code.startswith("APIG"):
            return {"error_code": self.code, "error_msg": self.text, "request_id": request_id}
        return {"error_code": self.code, "error_msg": self.text, "error_ext_msg": None}


class IamErrorResponse(ErrorResponse):
    """Error response of IAM: its code is the status as a number, `title` the status's name."""

    def __init__(self, status: int, text: str, title: str) -> None:
        super().__init__(status, str(status), text)
        self.title = title

    def body(self, request_id: str) -> dict[str, Any]:
        """The body in IAM's shape, without request id."""
        del request_id
        return {"error": {"code": self.status, "message": self.text, "title": self.title}}

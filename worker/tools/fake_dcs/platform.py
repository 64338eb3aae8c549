"""Services that give temporary keys to a workload: pod identity agent, STS, the old IAM, and the server's metadata.

Sources: CCE User Guide, Pod Identity; STS API, AssumeAgencyWithOIDC; IAM API, Obtaining a Token with OpenID Connect,
Obtaining Temporary Access Keys Using a Token; ECS User Guide, Obtaining Metadata, Security Key.
"""

from collections.abc import Callable
from secrets import token_hex
from typing import Any, Final

from aiohttp import web

from worker.tools.fake_dcs.apis import iam_time, json_object, read_body
from worker.tools.fake_dcs.faults import ErrorResponse, IamErrorResponse
from worker.tools.fake_dcs.responses import PendingResponse, respond
from worker.tools.fake_dcs.state import CallRecord, ServerState

MAX_METADATA_TOKEN_SECONDS: Final = 21_600
PROVIDER_URN: Final = "iam::account:oidc-provider:cce"
AGENCY_URN: Final = "iam::account:agency:dcs-worker"
IDP_ID: Final = "cce-cluster"
WAYS: Final = {
    "pod identity": {
        "HC_CONTAINER_CREDENTIALS_FULL_URI": "{url}/v1/credentials",
        "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE": "{token_file}",
    },
    "OIDC": {
        "HUAWEICLOUD_OIDC_PROVIDER_URN": PROVIDER_URN,
        "HUAWEICLOUD_OIDC_AGENCY_URN": AGENCY_URN,
        "HUAWEICLOUD_OIDC_TOKEN_FILE": "{token_file}",
        "HUAWEICLOUD_SDK_STS_ENDPOINT": "{url}",
    },
    "OIDC of the old IAM": {
        "HUAWEICLOUD_SDK_IDP_ID": IDP_ID,
        "HUAWEICLOUD_SDK_ID_TOKEN_FILE": "{token_file}",
        "WORKER_IAM_ENDPOINT": "{url}",
    },
}
"""Variables of a workload, by way: `url` of the fake DCS, `token_file` with `workload_token` of its settings."""

Handler = Callable[[web.Request, dict[str, Any]], web.Response]


class PlatformApi:
    """The services of one server: keys for the present `workload_token`, or for a token of the metadata service."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._iam_tokens: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        """Paths and methods of the services."""
        handlers: dict[str, Handler] = {
            "/v1/credentials": self.pod_identity,
            "/v5/agencies/assume-with-oidc": self.assume_agency,
            "/v3.0/OS-AUTH/id-token/tokens": self.iam_token,
            "/v3.0/OS-CREDENTIAL/securitytokens": self.iam_keys,
        }
        metadata_keys = self._route("metadata", self.metadata_keys)
        return [
            *(web.post(path, self._route("identity", handler)) for path, handler in handlers.items()),
            web.put("/meta-data/latest/api/token", self._route("metadata", self.metadata_token)),
            web.get("/openstack/latest/securitykey", metadata_keys, allow_head=False),
        ]

    def _route(self, operation: str, handler: Handler) -> Any:
        async def respond_to(request: web.Request, call: CallRecord) -> web.StreamResponse:
            body = json_object(request, await read_body(request)) if request.method == "POST" else {}

            def answer() -> web.Response:
                try:
                    return handler(request, body)
                except (KeyError, TypeError) as error:
                    raise ErrorResponse(400, "DCS.4005", "A member of the message body is missing.") from error

            step = self._state.faults.step_for_call(self._state.settings, operation)
            return await respond(PendingResponse(self._state, request, call, answer), step)

        return self._state.recorded_route(operation, respond_to)

    def pod_identity(self, request: web.Request, body: dict[str, Any]) -> web.Response:
        """Keys for the bare token, as the agent on the node gives them."""
        if body or request.headers.get("Authorization") != self._token:
            raise ErrorResponse(401, "DCS.1001", f"no association for {request.headers.get('Authorization')}")
        names = ("accessKeyId", "secretAccessKey", "securityToken", "expiration")
        subject = {"namespace": "dcs-migration", "serviceAccount": "dcs-worker"}
        agency = {"urn": AGENCY_URN, "id": "id"}
        return web.json_response({"assumedAgency": agency, "credentials": self._keys(names), "subject": subject})

    def assume_agency(self, _: web.Request, body: dict[str, Any]) -> web.Response:
        """Keys of an agency."""
        if body["id_token"] != self._token:
            raise ErrorResponse(401, "STS.1001", f"invalid token {body['id_token']}")
        if (body["provider_urn"], body["agency_urn"]) != (PROVIDER_URN, AGENCY_URN):
            raise ErrorResponse(403, "STS.1002", "not the agency of the provider")
        if not body["agency_session_name"] or not 900 <= body["duration_seconds"] <= 43_200:
            raise ErrorResponse(400, "STS.1003", "invalid session")
        names = ("access_key_id", "secret_access_key", "security_token", "expiration")
        return web.json_response({"credentials": self._keys(names)})

    def iam_token(self, request: web.Request, body: dict[str, Any]) -> web.Response:
        """An IAM token of the federated user."""
        if request.headers.get("X-Idp-Id") != IDP_ID or body["auth"]["id_token"]["id"] != self._token:
            raise IamErrorResponse(401, "The ID token is wrong.", "Unauthorized")
        text = token_hex(64)
        self._iam_tokens.add(text)
        return web.json_response({"token": {}}, status=201, headers={"X-Subject-Token": text})

    def iam_keys(self, _: web.Request, body: dict[str, Any]) -> web.Response:
        """Keys for an IAM token."""
        identity = body["auth"]["identity"]
        if identity["methods"] != ["token"] or identity["token"]["id"] not in self._iam_tokens:
            raise IamErrorResponse(401, "The token is wrong.", "Unauthorized")
        if not 900 <= identity["token"]["duration_seconds"] <= 86_400:
            raise IamErrorResponse(400, "The duration is invalid.", "Bad Request")
        names = ("access", "secret", "securitytoken", "expires_at")
        return web.json_response({"credential": self._keys(names)}, status=201)

    def metadata_token(self, request: web.Request, _: dict[str, Any]) -> web.Response:
        """A token of the metadata service, as plain text."""
        seconds = request.headers.get("X-Metadata-Token-Ttl-Seconds", "")
        if not (seconds.isascii() and seconds.isdigit() and 1 <= int(seconds) <= MAX_METADATA_TOKEN_SECONDS):
            raise ErrorResponse(400, "DCS.4800", "Invalid X-Metadata-Token-Ttl-Seconds in the request.")
        return web.Response(text=self._state.authenticator.issue_metadata_token(int(seconds), self._state.now()))

    def metadata_keys(self, request: web.Request, _: dict[str, Any]) -> web.Response:
        """Keys of the server's agency, for a token of the metadata service."""
        token = request.headers.get("X-Metadata-Token", "")
        if self._state.now() >= self._state.authenticator.metadata_tokens.get(token, 0.0):
            raise ErrorResponse(401, "DCS.1001")
        return web.json_response({"credential": self._keys(("access", "secret", "securitytoken", "expires_at"))})

    @property
    def _token(self) -> str:
        return self._state.settings.auth.workload_token.get_secret_value()

    def _keys(self, names: tuple[str, ...]) -> dict[str, str]:
        key = self._state.authenticator.issue_key(self._state.settings.auth, self._state.now())
        values = (key.access_key, key.secret_key, key.security_token, iam_time(key.expires))
        return dict(zip(names, values, strict=True))

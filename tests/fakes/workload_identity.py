"""The services that give temporary keys for a workload's token: pod identity agent, STS, and the old IAM.

Sources: CCE User Guide, Pod Identity; STS API, AssumeAgencyWithOIDC; IAM API, Obtaining a Token with OpenID Connect,
Obtaining Temporary Access Keys Using a Token.
"""

from secrets import token_hex
from typing import TYPE_CHECKING, Any

from aiohttp import web

from worker.tools.fake_dcs.apis import iam_time, json_object, read_body
from worker.tools.fake_dcs.faults import ErrorResponse, IamErrorResponse
from worker.tools.fake_dcs.responses import PendingResponse, respond
from worker.tools.fake_dcs.state import CallRecord

if TYPE_CHECKING:
    from tests.fakes.faulty_dcs import FaultyState

PROVIDER_URN = "iam::account:oidc-provider:cce"
AGENCY_URN = "iam::account:agency:dcs-worker"
IDP_ID = "cce-cluster"


class WorkloadIdentityApi:
    """Gives keys to the holder of the workload's present token, `auth.workload_token` of the settings."""

    def __init__(self, state: "FaultyState") -> None:
        self._state = state
        self._iam_tokens: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        """Paths and methods of the three services."""
        handlers = {
            "/v1/credentials": self.pod_identity,
            "/v5/agencies/assume-with-oidc": self.assume_agency,
            "/v3.0/OS-AUTH/id-token/tokens": self.iam_token,
            "/v3.0/OS-CREDENTIAL/securitytokens": self.iam_keys,
        }
        return [web.post(path, self._route(handler)) for path, handler in handlers.items()]

    def _route(self, handler: Any) -> Any:
        async def answer(request: web.Request, call: CallRecord) -> web.StreamResponse:
            body = json_object(request, await read_body(request))
            step = self._state.faults.step_for_call(self._state.settings, "identity")
            return await respond(PendingResponse(self._state, request, call, lambda: handler(request, body)), step)

        return self._state.recorded_route("identity", answer)

    def pod_identity(self, request: web.Request, body: dict[str, Any]) -> web.Response:
        """Keys for the bare token, as the agent on the node gives them."""
        if body or request.headers.get("Authorization") != self._token:
            raise ErrorResponse(401, "DCS.1001", f"no association for {request.headers.get('Authorization')}")
        names = ("accessKeyId", "secretAccessKey", "securityToken", "expiration")
        return web.json_response(
            {
                "assumedAgency": {"urn": AGENCY_URN, "id": "id"},
                "credentials": self._keys(names),
                "subject": {"namespace": "dcs-migration", "serviceAccount": "dcs-worker"},
            }
        )

    def assume_agency(self, request: web.Request, body: dict[str, Any]) -> web.Response:
        """Keys of an agency; the call is not signed."""
        assert "Authorization" not in request.headers
        if body["id_token"] != self._token:
            raise ErrorResponse(401, "STS.1001", f"invalid token {body['id_token']}")
        asked = (body["provider_urn"], body["agency_urn"], body["agency_session_name"], body["duration_seconds"])
        if asked != (PROVIDER_URN, AGENCY_URN, "oidc-sts-session", 3600):
            raise ErrorResponse(403, "STS.1002", "not the agency of the provider")
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
        assert identity["token"]["duration_seconds"] == 21_600
        return web.json_response(
            {"credential": self._keys(("access", "secret", "securitytoken", "expires_at"))}, status=201
        )

    @property
    def _token(self) -> str:
        return self._state.settings.auth.workload_token

    def _keys(self, names: tuple[str, ...]) -> dict[str, str]:
        key = self._state.own_authenticator.issue_key(self._state.settings.auth, self._state.now())
        values = (key.access_key, key.secret_key, key.security_token, iam_time(key.expires))
        return dict(zip(names, values, strict=True))

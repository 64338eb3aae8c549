"""The platform's metadata service: temporary keys for whoever runs on the machine.

Source: ECS User Guide, Obtaining Metadata, Security Key.
"""

from aiohttp import web

from worker.tools.fake_dcs.call_log import CallRecord
from worker.tools.fake_dcs.error_responses import ErrorResponse
from worker.tools.fake_dcs.identity_api import iam_time
from worker.tools.fake_dcs.responses import answer_call
from worker.tools.fake_dcs.state import ServerState

_MAX_TOKEN_SECONDS = 21_600


class MetadataApi:
    """Metadata tokens and temporary keys over one stage."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def __repr__(self) -> str:
        return f"<Metadata {self._state.issued}>"

    def routes(self) -> list[web.RouteDef]:
        """Paths of the metadata service, each for its one method."""
        recorded_route = self._state.recorded_route
        return [
            web.put("/meta-data/latest/api/token", recorded_route("metadata", self.token)),
            web.get("/openstack/latest/securitykey", recorded_route("metadata", self.security_key), allow_head=False),
        ]

    async def token(self, request: web.Request, call: CallRecord) -> web.StreamResponse:
        """Give out a token for the metadata service, as plain text."""
        return await answer_call(self._state, "metadata", request, call, lambda: self._token(request))

    async def security_key(self, request: web.Request, call: CallRecord) -> web.StreamResponse:
        """Give out temporary keys to whoever shows a metadata token."""
        return await answer_call(self._state, "metadata", request, call, lambda: self._security_key(request))

    def _token(self, request: web.Request) -> web.Response:
        seconds = request.headers.get("X-Metadata-Token-Ttl-Seconds", "")
        if not (seconds.isascii() and seconds.isdigit() and 1 <= int(seconds) <= _MAX_TOKEN_SECONDS):
            raise ErrorResponse(400, "DCS.4800", "Invalid X-Metadata-Token-Ttl-Seconds in the request.")
        return web.Response(text=self._state.issued.metadata_token(int(seconds), self._state.now()))

    def _security_key(self, request: web.Request) -> web.Response:
        now, issued = self._state.now(), self._state.issued
        if now >= issued.metadata_tokens.get(request.headers.get("X-Metadata-Token", ""), 0.0):
            raise ErrorResponse(401, "DCS.1001")
        key = issued.key(self._state.settings.auth, now)
        credential = {
            "access": key.access_key,
            "secret": key.secret_key,
            "securitytoken": key.security_token,
            "expires_at": iam_time(key.expires),
        }
        return web.json_response({"credential": credential})

"""The platform's metadata service: temporary keys for whoever runs on the machine.

Source: ECS User Guide, Obtaining Metadata, Security Key.
"""

from aiohttp import web

from worker.tools.standin.endings import play
from worker.tools.standin.iam import stamp
from worker.tools.standin.record import Call
from worker.tools.standin.refusal import Refusal
from worker.tools.standin.stage import Stage

_MOST_SECONDS = 21_600


class Metadata:
    """Metadata tokens and temporary keys over one stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def __repr__(self) -> str:
        return f"<Metadata {self._stage.issued}>"

    def routes(self) -> list[web.RouteDef]:
        """Paths of the metadata service, each for its one method."""
        recorded = self._stage.recorded
        return [
            web.put("/meta-data/latest/api/token", recorded("metadata", self.token)),
            web.get("/openstack/latest/securitykey", recorded("metadata", self.security_key), allow_head=False),
        ]

    async def token(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Give out a token for the metadata service, as plain text."""
        return await play(self._stage, "metadata", request, call, lambda: self._token(request))

    async def security_key(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Give out temporary keys to whoever shows a metadata token."""
        return await play(self._stage, "metadata", request, call, lambda: self._security_key(request))

    def _token(self, request: web.Request) -> web.Response:
        seconds = request.headers.get("X-Metadata-Token-Ttl-Seconds", "")
        if not (seconds.isascii() and seconds.isdigit() and 1 <= int(seconds) <= _MOST_SECONDS):
            raise Refusal(400, "DCS.4800", "Invalid X-Metadata-Token-Ttl-Seconds in the request.")
        return web.Response(text=self._stage.issued.metadata_token(int(seconds), self._stage.now()))

    def _security_key(self, request: web.Request) -> web.Response:
        now, issued = self._stage.now(), self._stage.issued
        if now >= issued.metadata_tokens.get(request.headers.get("X-Metadata-Token", ""), 0.0):
            raise Refusal(401, "DCS.1001")
        key = issued.key(self._stage.settings.auth, now)
        credential = {
            "access": key.access_key,
            "secret": key.secret_key,
            "securitytoken": key.security_token,
            "expires_at": stamp(key.expires),
        }
        return web.json_response({"credential": credential})

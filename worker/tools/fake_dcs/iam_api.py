"""The IAM API of the fake DCS: project-scoped tokens by password.

Source: IAM API, Obtaining a User Token Through Password Authentication.
"""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aiohttp import web

from worker.tools.fake_dcs.call_log import CallRecord
from worker.tools.fake_dcs.dcs_api import json_object, read_body
from worker.tools.fake_dcs.faults import IamErrorResponse
from worker.tools.fake_dcs.responses import PendingResponse, respond
from worker.tools.fake_dcs.state import ServerState


class IamApi:
    """The IAM API of one server."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def routes(self) -> list[web.RouteDef]:
        """Paths and methods of IAM."""
        return [web.post("/v3/auth/tokens", self._state.recorded_route("token", self.token))]

    async def token(self, request: web.Request, call: CallRecord) -> web.StreamResponse:
        """Issue a project-scoped token for the right password: 201, the token in X-Subject-Token."""
        state = self._state
        user, scope = _user_and_scope(json_object(request, await read_body(request)))
        call.project = scope.get("id") or scope["name"]
        step = state.faults.step_for_call(state.settings, "token")
        call.step = step.text
        has_catalog = request.query.get("nocatalog") != "true"
        pending = PendingResponse(
            state, request, state.headers(call), lambda: self._issue_token(user, scope, has_catalog)
        )
        return await respond(pending, step)

    def _issue_token(self, user: dict[str, Any], scope: dict[str, str], has_catalog: bool) -> web.Response:
        auth, now = self._state.settings.auth, self._state.now()
        self._state.authenticator.check_password(auth, user["domain"]["name"], user["name"], user["password"], now)
        project, name = self._project(scope)
        text, token = self._state.authenticator.issue_token(auth, project, now)
        fields: dict[str, Any] = {
            "expires_at": iam_time(token.expires),
            "issued_at": iam_time(now),
            "methods": ["password"],
            "project": {"id": project, "name": name, "domain": {"name": auth.domain}},
            "user": {"name": auth.user, "domain": {"name": auth.domain}},
            "roles": [],
        }
        if has_catalog:
            fields["catalog"] = []
        headers = {"X-Subject-Token": text, "X-IAM-Trace-Id": f"token_{uuid4().hex}"}
        return web.json_response({"token": fields}, status=201, headers=headers)

    def _project(self, scope: dict[str, str]) -> tuple[str, str]:
        """Id and name of the scope's project; an id need not be known, a name must."""
        known = self._state.settings.projects
        if scope.get("id"):
            names = [name for name, project in known.items() if project == scope["id"]]
            return scope["id"], names[0] if names else scope["id"]
        if scope["name"] in known:
            return known[scope["name"]], scope["name"]
        raise IamErrorResponse(400, "The project of the scope does not exist.", "Bad Request")


def iam_time(epoch: float) -> str:
    """A time in IAM's format: 2020-01-04T09:05:22.701000Z."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _user_and_scope(requested: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The user with name, password and domain, and the project's id or name. Raises IamErrorResponse."""
    with suppress(KeyError, TypeError, AttributeError):
        identity, scope = requested["auth"]["identity"], requested["auth"]["scope"]["project"]
        user = identity["password"]["user"]
        texts = (user["domain"]["name"], user["name"], user["password"], scope.get("id") or scope["name"])
        if identity["methods"] == ["password"] and all(isinstance(text, str) for text in texts):
            return user, scope
    raise IamErrorResponse(400, "The request body is no password authentication for a project.", "Bad Request")

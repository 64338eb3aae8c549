"""APIs that issue credentials: IAM (tokens by password, projects) and the metadata service (temporary keys).

Sources: IAM API, Obtaining a User Token Through Password Authentication, and Querying Project Information; ECS User
Guide, Obtaining Metadata, Security Key.
"""

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from aiohttp import web
from pydantic import BaseModel, Field, ValidationError

from worker.tools.fake_dcs.authentication import ReceivedRequest, check_credentials
from worker.tools.fake_dcs.call_log import CallRecord
from worker.tools.fake_dcs.dcs_api import json_object, read_body
from worker.tools.fake_dcs.error_responses import ErrorResponse, IamErrorResponse
from worker.tools.fake_dcs.responses import answer_call
from worker.tools.fake_dcs.state import ServerState

_MAX_TOKEN_SECONDS = 21_600


class _Domain(BaseModel):
    name: str


class _User(BaseModel):
    domain: _Domain
    name: str
    password: str


class _Password(BaseModel):
    user: _User


class _PasswordIdentity(BaseModel):
    methods: list[Literal["password"]] = Field(min_length=1, max_length=1)
    password: _Password


class _Project(BaseModel):
    id: str | None = Field(default=None, min_length=1)
    name: str | None = Field(default=None, min_length=1)


class _Scope(BaseModel):
    project: _Project


class _Auth(BaseModel):
    identity: _PasswordIdentity
    scope: _Scope


class _TokenRequest(BaseModel):
    auth: _Auth


class IamApi:
    """The IAM API of one server."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def __repr__(self) -> str:
        return f"<IamApi {self._state.issued}>"

    def routes(self) -> list[web.RouteDef]:
        """Paths and methods of IAM."""
        recorded_route = self._state.recorded_route
        return [
            web.post("/v3/auth/tokens", recorded_route("token", self.token)),
            web.get("/v3/projects", recorded_route("projects", self.projects), allow_head=False),
        ]

    async def token(self, request: web.Request, call: CallRecord) -> web.StreamResponse:
        """Issue a project-scoped token for the right password: 201, the token in X-Subject-Token."""
        requested = await _token_request(request)
        call.project = requested.scope.project.id or requested.scope.project.name
        has_catalog = request.query.get("nocatalog") != "true"
        return await answer_call(self._state, "token", request, call, lambda: self._token(requested, has_catalog))

    async def projects(self, request: web.Request, call: CallRecord) -> web.StreamResponse:
        """List all projects, or the project with a name."""
        return await answer_call(self._state, "projects", request, call, lambda: self._projects(request))

    def _token(self, requested: _Auth, has_catalog: bool) -> web.Response:
        auth, now = self._state.settings.auth, self._state.now()
        self._check_password(requested.identity.password.user, now)
        project, name = self._project(requested.scope.project)
        text, token = self._state.issued.token(auth, project, now)
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

    def _check_password(self, user: _User, now: float) -> None:
        auth, issued = self._state.settings.auth, self._state.issued
        if issued.is_locked(user.name, now):
            raise IamErrorResponse(401, "The account is locked.", "Unauthorized")
        given = (user.domain.name, user.name, user.password)
        is_right = given == (auth.domain, auth.user, auth.password.get_secret_value()) and not auth.refuse_passwords
        issued.record_attempt(auth, user.name, is_right, now)
        if not is_right:
            raise IamErrorResponse(401, "The username or password is wrong.", "Unauthorized")

    def _project(self, scope: _Project) -> tuple[str, str]:
        known = self._state.settings.projects
        if scope.id is not None:
            names = [name for name, project in known.items() if project == scope.id]
            return scope.id, names[0] if names else scope.id
        if scope.name in known:
            return known[scope.name], scope.name
        raise IamErrorResponse(400, "The project of the scope does not exist.", "Bad Request")

    def _projects(self, request: web.Request) -> web.Response:
        settings = self._state.settings
        check_credentials(settings.auth, self._state.issued, ReceivedRequest(request, b"", None, self._state.now()))
        wanted = request.query.get("name")
        rows = [
            {"id": project, "name": name, "enabled": True, "domain_id": "stand-in", "is_domain": False}
            for name, project in settings.projects.items()
            if wanted in {None, name}
        ]
        return web.json_response({"projects": rows, "links": {"self": None}})


def iam_time(epoch: float) -> str:
    """A time in IAM's format: 2020-01-04T09:05:22.701000Z."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def _token_request(request: web.Request) -> _Auth:
    requested = json_object(request, await read_body(request))
    try:
        return _TokenRequest.model_validate(requested).auth
    except ValidationError as error:
        # `from None`: the cause would quote the password.
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise IamErrorResponse(400, f"The request body is invalid at {where}.", "Bad Request") from None


class MetadataApi:
    """The metadata service of one server."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def __repr__(self) -> str:
        return f"<MetadataApi {self._state.issued}>"

    def routes(self) -> list[web.RouteDef]:
        """Paths and methods of the metadata service."""
        recorded_route = self._state.recorded_route
        return [
            web.put("/meta-data/latest/api/token", recorded_route("metadata", self.token)),
            web.get("/openstack/latest/securitykey", recorded_route("metadata", self.security_key), allow_head=False),
        ]

    async def token(self, request: web.Request, call: CallRecord) -> web.StreamResponse:
        """Issue a token of the metadata service, as plain text."""
        return await answer_call(self._state, "metadata", request, call, lambda: self._token(request))

    async def security_key(self, request: web.Request, call: CallRecord) -> web.StreamResponse:
        """Issue temporary keys to the holder of a metadata token."""
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

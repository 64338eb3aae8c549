"""IAM as far as a client of DCS needs it: project-scoped tokens by password, and the list of projects.

Sources: IAM API, Obtaining a User Token Through Password Authentication, and Querying Project Information.
"""

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from aiohttp import web
from pydantic import BaseModel, Field, ValidationError

from worker.tools.standin.access import Claim, demand
from worker.tools.standin.endings import play
from worker.tools.standin.migration import json_object, read_body
from worker.tools.standin.record import Call
from worker.tools.standin.refusal import IamRefusal
from worker.tools.standin.stage import Stage


class _Domain(BaseModel):
    name: str


class _User(BaseModel):
    domain: _Domain
    name: str
    password: str


class _Password(BaseModel):
    user: _User


class _Identity(BaseModel):
    methods: list[Literal["password"]] = Field(min_length=1, max_length=1)
    password: _Password


class _Project(BaseModel):
    id: str | None = Field(default=None, min_length=1)
    name: str | None = Field(default=None, min_length=1)


class _Scope(BaseModel):
    project: _Project


class _Auth(BaseModel):
    identity: _Identity
    scope: _Scope


class _TokenRequest(BaseModel):
    auth: _Auth


class Iam:
    """Tokens and projects over one stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def __repr__(self) -> str:
        return f"<Iam {self._stage.issued}>"

    def routes(self) -> list[web.RouteDef]:
        """Paths of IAM, each for its one method."""
        recorded = self._stage.recorded
        return [
            web.post("/v3/auth/tokens", recorded("token", self.token)),
            web.get("/v3/projects", recorded("projects", self.projects), allow_head=False),
        ]

    async def token(self, request: web.Request, call: Call) -> web.StreamResponse:
        """Issue a project-scoped token for the right user and password: 201, the token in X-Subject-Token."""
        asked = await _token_asked_for(request)
        call.project = asked.scope.project.id or asked.scope.project.name
        with_catalog = request.query.get("nocatalog") != "true"
        return await play(self._stage, "token", request, call, lambda: self._token(asked, with_catalog))

    async def projects(self, request: web.Request, call: Call) -> web.StreamResponse:
        """List the projects, or the one of a name."""
        return await play(self._stage, "projects", request, call, lambda: self._projects(request))

    def _token(self, asked: _Auth, with_catalog: bool) -> web.Response:
        auth, now = self._stage.settings.auth, self._stage.now()
        self._demand_password(asked.identity.password.user, now)
        project, name = self._project(asked.scope.project)
        text, token = self._stage.issued.token(auth, project, now)
        fields: dict[str, Any] = {
            "expires_at": stamp(token.expires),
            "issued_at": stamp(now),
            "methods": ["password"],
            "project": {"id": project, "name": name, "domain": {"name": auth.domain}},
            "user": {"name": auth.user, "domain": {"name": auth.domain}},
            "roles": [],
        }
        if with_catalog:
            fields["catalog"] = []
        headers = {"X-Subject-Token": text, "X-IAM-Trace-Id": f"token_{uuid4().hex}"}
        return web.json_response({"token": fields}, status=201, headers=headers)

    def _demand_password(self, user: _User, now: float) -> None:
        auth, issued = self._stage.settings.auth, self._stage.issued
        if issued.is_locked(user.name, now):
            raise IamRefusal(401, "The account is locked.", "Unauthorized")
        given = (user.domain.name, user.name, user.password)
        right = given == (auth.domain, auth.user, auth.password.get_secret_value()) and not auth.refuse_passwords
        issued.tried(auth, user.name, right, now)
        if not right:
            raise IamRefusal(401, "The username or password is wrong.", "Unauthorized")

    def _project(self, scope: _Project) -> tuple[str, str]:
        known = self._stage.settings.projects
        if scope.id is not None:
            names = [name for name, project in known.items() if project == scope.id]
            return scope.id, names[0] if names else scope.id
        if scope.name in known:
            return known[scope.name], scope.name
        raise IamRefusal(400, "The project of the scope does not exist.", "Bad Request")

    def _projects(self, request: web.Request) -> web.Response:
        settings = self._stage.settings
        demand(settings.auth, self._stage.issued, Claim(request, b"", None, self._stage.now()))
        wanted = request.query.get("name")
        rows = [
            {"id": project, "name": name, "enabled": True, "domain_id": "stand-in", "is_domain": False}
            for name, project in settings.projects.items()
            if wanted in {None, name}
        ]
        return web.json_response({"projects": rows, "links": {"self": None}})


def stamp(epoch: float) -> str:
    """A moment as IAM writes it: 2020-01-04T09:05:22.701000Z."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def _token_asked_for(request: web.Request) -> _Auth:
    asked = json_object(request, await read_body(request))
    try:
        return _TokenRequest.model_validate(asked).auth
    except ValidationError as wrong:
        # Without the cause: it would quote the password.
        where = ".".join(str(part) for part in wrong.errors()[0]["loc"])
        raise IamRefusal(400, f"The request body is invalid at {where}.", "Bad Request") from None

"""Calls to a fake DCS for its tests: creates and lists, signed lists, logins by password."""

import hmac
from hashlib import sha256
from typing import Any

import aiohttp

from worker.tools.fake_dcs.authentication import canonical_request

CREATE = "/v2/p/migration/instance"
LIST = "/v2/p/migration-tasks"
FIELDS = {"name": "x", "vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}
DATE = "20231114T221320Z"


async def ask(client: aiohttp.ClientSession, method: str, path: str, **options: Any) -> tuple[int, Any]:
    """Status and body of a call."""
    async with client.request(method, path, **options) as reply:
        return reply.status, await (reply.json() if reply.content_type == "application/json" else reply.text())


async def listed_names(client: aiohttp.ClientSession, query: str = "") -> list[str]:
    """The names of the listed tasks."""
    _, listed = await ask(client, "GET", LIST + query)
    return [row["task_name"] for row in listed["migration_tasks"]]


def signed(access_key: str, secret_key: str, **headers: str) -> dict[str, str]:
    """Headers of a signed list call."""
    sent = {"x-sdk-date": DATE, **{name.replace("_", "-"): value for name, value in headers.items()}}
    canonical = canonical_request("GET", LIST, sent, ("x-sdk-date",), b"")
    text = f"SDK-HMAC-SHA256\n{DATE}\n{sha256(canonical).hexdigest()}"
    signature = hmac.new(secret_key.encode(), text.encode(), sha256).hexdigest()
    authorization = f"SDK-HMAC-SHA256 Access={access_key}, SignedHeaders=x-sdk-date, Signature={signature}"
    return {**sent, "Authorization": authorization}


async def list_tasks(client: aiohttp.ClientSession, headers: dict[str, str]) -> tuple[int, str]:
    """Status and error text of a list call."""
    async with client.get(LIST, headers=headers) as reply:
        return reply.status, (await reply.json()).get("error_msg", "")


def password_login(password: str = "stand-in-password", **scope: str) -> dict[str, Any]:
    """Body of a request for a token."""
    user = {"name": "stand-in-user", "password": password, "domain": {"name": "stand-in-domain"}}
    identity = {"methods": ["password"], "password": {"user": user}}
    return {"auth": {"identity": identity, "scope": {"project": scope or {"id": "p"}}}}


async def request_token(client: aiohttp.ClientSession, asked: dict[str, Any]) -> tuple[int, str, Any]:
    """Status, token and body of the answer of IAM."""
    async with client.post("/v3/auth/tokens?nocatalog=true", json=asked) as reply:
        return reply.status, reply.headers.get("X-Subject-Token", ""), await reply.json()

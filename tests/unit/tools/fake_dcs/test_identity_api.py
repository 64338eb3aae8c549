"""Who may call the fake DCS by token: a fixed one, or one that its IAM issued."""

from typing import Any

import aiohttp

from tests.fake_clock import FakeClock
from worker.tools.fake_dcs import FakeDcs

LIST = "/v2/p/migration-tasks"


def _password(password: str = "stand-in-password", **scope: str) -> dict[str, Any]:
    user = {"name": "stand-in-user", "password": password, "domain": {"name": "stand-in-domain"}}
    identity = {"methods": ["password"], "password": {"user": user}}
    return {"auth": {"identity": identity, "scope": {"project": scope or {"id": "p"}}}}


async def _token(client: aiohttp.ClientSession, asked: dict[str, Any]) -> tuple[int, str, Any]:
    async with client.post("/v3/auth/tokens?nocatalog=true", json=asked) as reply:
        return reply.status, reply.headers.get("X-Subject-Token", ""), await reply.json()


async def _list(client: aiohttp.ClientSession, path: str = LIST, **headers: str) -> tuple[int, str | None]:
    async with client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()}) as reply:
        return reply.status, (await reply.json()).get("error_code")


async def test_only_fixed_token_is_accepted(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """Only the configured token is accepted; a missing and a wrong one have separate codes."""
    await fake_dcs.apply(auth={"mode": "token", "token": "right"})

    assert await _list(client) == (401, "DCS.1003")
    assert await _list(client, X_Auth_Token="wrong") == (401, "DCS.1001")
    assert await _list(client, X_Auth_Token="right") == (200, None)


async def test_issued_token_is_valid_for_its_project_until_expiry(
    fake_dcs: FakeDcs, client: aiohttp.ClientSession, clock: FakeClock
) -> None:
    """IAM answers 201 with the token in a header and its end in the body; the API respects both."""
    await fake_dcs.apply(auth={"mode": "iam", "token_seconds": 60})

    status, token, body = await _token(client, _password())

    assert (status, body["token"]["expires_at"]) == (201, "2023-11-14T22:14:20.000000Z")
    assert body["token"]["project"]["id"] == "p"
    assert await _list(client, X_Auth_Token="unknown") == (401, "DCS.1001")
    assert await _list(client, X_Auth_Token=token) == (200, None)
    assert await _list(client, "/v2/q/migration-tasks", X_Auth_Token=token) == (401, "DCS.1004")
    clock.now += 60
    assert await _list(client, X_Auth_Token=token) == (401, "APIGW.0307")
    assert fake_dcs.stats()["calls"]["token"] == {"201": 1}


async def test_token_scope_is_id_or_name(client: aiohttp.ClientSession) -> None:
    """A project is named by region or id; an unknown name is a 400 in IAM's shape."""
    _, _, by_name = await _token(client, _password(name="cn-north-4"))
    _, _, by_id = await _token(client, _password(id="0123456789abcdef0123456789abcdef"))
    status, _, error = await _token(client, _password(name="nowhere"))

    assert by_name["token"]["project"] == by_id["token"]["project"]
    assert (status, error["error"]["code"]) == (400, 400)


async def test_wrong_password_gets_no_token(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """IAM rejects it with an integer code and repeats no password; it can reject every password."""
    status, token, error = await _token(client, _password("wrong-password"))
    await fake_dcs.apply(auth={"refuse_passwords": True})
    refused, _, _ = await _token(client, _password())
    malformed, _, invalid = await _token(client, {"auth": {"identity": "wrong-password"}})

    assert (status, token, error["error"]["code"], error["error"]["title"]) == (401, "", 401, "Unauthorized")
    assert (refused, malformed) == (401, 400)
    assert "wrong-password" not in str([error, invalid, [call.as_json() for call in fake_dcs.calls]])


async def test_changed_password_invalidates_tokens(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """Tokens end with the password they were issued for; the new password gets a new one."""
    await fake_dcs.apply(auth={"mode": "iam"})
    _, token, _ = await _token(client, _password())
    await fake_dcs.apply(auth={"password": "new-password"})

    assert await _list(client, X_Auth_Token=token) == (401, "APIGW.0307")
    assert (await _token(client, _password()))[0] == 401
    assert (await _token(client, _password("new-password")))[0] == 201


async def test_wrong_passwords_lock_account(fake_dcs: FakeDcs, client: aiohttp.ClientSession, clock: FakeClock) -> None:
    """After too many wrong ones in a row even the right password is rejected until the lock ends."""
    await fake_dcs.apply(auth={"lock_after": 2, "lock_seconds": 300})
    for password in ("wrong", "stand-in-password", "wrong", "wrong"):
        await _token(client, _password(password))

    assert (await _token(client, _password()))[0] == 401
    clock.now += 300
    assert (await _token(client, _password()))[0] == 201


async def test_iam_has_scripts(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """IAM can fail separately; a failed call issues nothing."""
    await fake_dcs.apply(operation_scripts={"token": ["error 503 APIGW.0613", "html", "ok"]})

    async with client.post("/v3/auth/tokens", json=_password()) as down:
        assert down.status == 503
    async with client.post("/v3/auth/tokens", json=_password()) as strange:
        assert strange.content_type == "text/html"
    assert fake_dcs.stats()["issued"]["tokens"] == 0
    assert (await _token(client, _password()))[0] == 201

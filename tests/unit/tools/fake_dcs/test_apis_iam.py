"""Who may call the fake DCS by token: a fixed one, or one that its IAM issued."""

import aiohttp

from tests.fakes.clock import FakeClock
from tests.unit.tools.fake_dcs.calls import LIST, password_login, request_token
from worker.tools.fake_dcs import FakeDcs


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

    status, token, body = await request_token(client, password_login())

    assert (status, body["token"]["expires_at"]) == (201, "2023-11-14T22:14:20.000000Z")
    assert body["token"]["project"]["id"] == "p"
    assert await _list(client, X_Auth_Token="unknown") == (401, "DCS.1001")
    assert await _list(client, X_Auth_Token=token) == (200, None)
    assert await _list(client, "/v2/q/migration-tasks", X_Auth_Token=token) == (401, "DCS.1004")
    clock.now += 60
    assert await _list(client, X_Auth_Token=token) == (401, "APIGW.0307")
    assert fake_dcs.state.stats()["calls"]["token"] == {"201": 1}


async def test_token_without_project_id_is_refused(client: aiohttp.ClientSession) -> None:
    """It is a 400 in IAM's shape."""
    _, _, issued = await request_token(client, password_login(id="q"))
    status, _, error = await request_token(client, password_login(name="nowhere"))

    assert issued["token"]["project"]["id"] == "q"
    assert (status, error["error"]["code"]) == (400, 400)


async def test_wrong_password_gets_no_token(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """IAM rejects it with an integer code and repeats no password, nor that of an invalid body."""
    status, token, error = await request_token(client, password_login("wrong-password"))
    malformed, _, invalid = await request_token(client, {"auth": {"identity": "wrong-password"}})

    assert (status, token, error["error"]["code"], error["error"]["title"]) == (401, "", 401, "Unauthorized")
    assert malformed == 400
    assert "wrong-password" not in str([error, invalid, fake_dcs.calls])


async def test_changed_password_invalidates_tokens(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """Tokens end with the password they were issued for; the new password gets a new one."""
    await fake_dcs.apply(auth={"mode": "iam"})
    _, token, _ = await request_token(client, password_login())
    await fake_dcs.apply(auth={"password": "new-password"})

    assert await _list(client, X_Auth_Token=token) == (401, "APIGW.0307")
    assert (await request_token(client, password_login()))[0] == 401
    assert (await request_token(client, password_login("new-password")))[0] == 201


async def test_iam_has_scripts(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """IAM can fail separately; a failed call issues nothing."""
    await fake_dcs.apply(operation_scripts={"token": ["error 503 APIGW.0613", "html", "ok"]})

    async with client.post("/v3/auth/tokens", json=password_login()) as down:
        assert down.status == 503
    async with client.post("/v3/auth/tokens", json=password_login()) as strange:
        assert strange.content_type == "text/html"
    assert fake_dcs.state.authenticator.tokens == {}
    assert (await request_token(client, password_login()))[0] == 201


async def test_wrong_passwords_lock_account(fake_dcs: FakeDcs, client: aiohttp.ClientSession, clock: FakeClock) -> None:
    """After too many wrong ones in a row even the right password is rejected until the lock ends."""
    await fake_dcs.apply(auth={"lock_after": 2, "lock_seconds": 300})
    for password in ("wrong", "stand-in-password", "wrong", "wrong"):
        await request_token(client, password_login(password))

    assert (await request_token(client, password_login()))[0] == 401
    clock.now += 300
    assert (await request_token(client, password_login()))[0] == 201

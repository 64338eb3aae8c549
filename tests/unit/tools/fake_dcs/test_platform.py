"""Keys that the fake DCS gives to a workload, by each way of the platform."""

from typing import Any

import aiohttp
import pytest

from tests.fakes.clock import FakeClock
from tests.unit.tools.fake_dcs.calls import ask, list_tasks, signed
from worker.tools.fake_dcs import Auth, FakeDcs
from worker.tools.fake_dcs.platform import AGENCY_URN, IDP_ID, PROVIDER_URN

TOKEN = Auth().workload_token.get_secret_value()
STS = "/v5/agencies/assume-with-oidc"
SESSION = {"agency_urn": AGENCY_URN, "agency_session_name": "s", "id_token": TOKEN, "duration_seconds": 900}
IAM_TOKEN, IAM_KEYS = "/v3.0/OS-AUTH/id-token/tokens", "/v3.0/OS-CREDENTIAL/securitytokens"


def _for(iam_token: str) -> dict[str, Any]:
    return {"auth": {"identity": {"methods": ["token"], "token": {"id": iam_token, "duration_seconds": 21_600}}}}


async def _keys_of_old_iam(client: aiohttp.ClientSession) -> tuple[int, Any]:
    headers, body = {"X-Idp-Id": IDP_ID}, {"auth": {"id_token": {"id": TOKEN}}}
    async with client.post(IAM_TOKEN, json=body, headers=headers) as reply:
        iam_token = reply.headers["X-Subject-Token"]
    return await ask(client, "POST", IAM_KEYS, json=_for(iam_token))


async def test_keys_of_every_way_sign_calls(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """Each way spells the three texts in its manner; only such keys are accepted in mode `platform`."""
    await fake_dcs.apply(auth={"mode": "platform"})
    _, pod = await ask(client, "POST", "/v1/credentials", json={}, headers={"Authorization": TOKEN})
    _, oidc = await ask(client, "POST", STS, json=SESSION | {"provider_urn": PROVIDER_URN})
    status, old = await _keys_of_old_iam(client)

    spellings = [
        (pod["credentials"], "accessKeyId", "secretAccessKey", "securityToken"),
        (oidc["credentials"], "access_key_id", "secret_access_key", "security_token"),
        (old["credential"], "access", "secret", "securitytoken"),
    ]
    assert status == 201
    for keys, access, secret, token in spellings:
        call = signed(keys[access], keys[secret], X_Security_Token=keys[token])
        assert (await list_tasks(client, call))[0] == 200
    lasting = Auth()
    refused = await list_tasks(client, signed(lasting.access_key, lasting.secret_key.get_secret_value()))
    assert (refused[0], "ak not exist" in refused[1]) == (401, True)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/credentials", {}, 401),
        (STS, SESSION | {"provider_urn": PROVIDER_URN, "id_token": "wrong"}, 401),
        (STS, SESSION | {"provider_urn": "another"}, 403),
        (STS, SESSION | {"provider_urn": PROVIDER_URN, "duration_seconds": 60}, 400),
        (STS, SESSION, 400),
        (IAM_TOKEN, {"auth": {"id_token": {"id": "wrong"}}}, 401),
        (IAM_TOKEN, {"auth": None}, 401),
        (IAM_KEYS, {"auth": None}, 400),
        (IAM_KEYS, _for("wrong"), 401),
    ],
)
async def test_no_keys_for_another_identity(
    client: aiohttp.ClientSession, path: str, body: dict[str, Any], status: int
) -> None:
    """A wrong token, agency or duration, and a body that lacks a member, get none."""
    assert (await ask(client, "POST", path, json=body))[0] == status


async def test_metadata_service_needs_token(client: aiohttp.ClientSession) -> None:
    """A token is issued for a stated time only, and keys only to its holder."""
    async with client.put("/meta-data/latest/api/token") as without:
        assert without.status == 400
    async with client.get("/openstack/latest/securitykey") as refused:
        assert refused.status == 401


async def _temporary(client: aiohttp.ClientSession) -> dict[str, str]:
    seconds = {"X-Metadata-Token-Ttl-Seconds": "60"}
    async with client.put("/meta-data/latest/api/token", headers=seconds) as given:
        token = await given.text()
    async with client.get("/openstack/latest/securitykey", headers={"X-Metadata-Token": token}) as reply:
        credential: dict[str, str] = (await reply.json())["credential"]
    return credential


async def test_temporary_keys_need_security_token(
    fake_dcs: FakeDcs, client: aiohttp.ClientSession, clock: FakeClock
) -> None:
    """Temporary keys are accepted with their security token, until they expire."""
    await fake_dcs.apply(auth={"mode": "aksk", "temporary_key_seconds": 600})

    key = await _temporary(client)
    incomplete = signed(key["access"], key["secret"])
    complete = {**incomplete, "X-Security-Token": key["securitytoken"]}

    assert key["expires_at"] == "2023-11-14T22:23:20.000000Z"
    assert (await list_tasks(client, complete))[0] == 200
    assert "security token" in (await list_tasks(client, incomplete))[1]
    clock.now += 600
    assert "has expired" in (await list_tasks(client, complete))[1]

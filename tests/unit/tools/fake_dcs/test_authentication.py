"""Who may call the fake DCS by signature: with a lasting key, or with temporary ones of the metadata service."""

import hmac
from hashlib import sha256

import aiohttp
import pytest

from tests.fake_clock import FakeClock
from worker.tools.fake_dcs import FakeDcs
from worker.tools.fake_dcs.signature import canonical_request

LIST = "/v2/p/migration-tasks"
DATE = "20231114T221320Z"


def _signed(access_key: str, secret_key: str, **headers: str) -> dict[str, str]:
    """Headers of a signed list call; the tests of the verification itself are elsewhere, on official vectors."""
    sent = {"x-sdk-date": DATE, **{name.replace("_", "-"): value for name, value in headers.items()}}
    canonical = canonical_request("GET", LIST, sent, ("x-sdk-date",), b"")
    text = f"SDK-HMAC-SHA256\n{DATE}\n{sha256(canonical).hexdigest()}"
    signature = hmac.new(secret_key.encode(), text.encode(), sha256).hexdigest()
    authorization = f"SDK-HMAC-SHA256 Access={access_key}, SignedHeaders=x-sdk-date, Signature={signature}"
    return {**sent, "Authorization": authorization}


async def _list(client: aiohttp.ClientSession, headers: dict[str, str]) -> tuple[int, str]:
    async with client.get(LIST, headers=headers) as reply:
        return reply.status, (await reply.json()).get("error_msg", "")


async def _temporary(client: aiohttp.ClientSession) -> dict[str, str]:
    seconds = {"X-Metadata-Token-Ttl-Seconds": "60"}
    async with client.put("/meta-data/latest/api/token", headers=seconds) as given:
        token = await given.text()
    async with client.get("/openstack/latest/securitykey", headers={"X-Metadata-Token": token}) as reply:
        credential: dict[str, str] = (await reply.json())["credential"]
    return credential


async def test_right_signature_is_accepted(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """The right key is accepted; a project header that contradicts the path is rejected."""
    await fake_dcs.apply(auth={"mode": "aksk", "access_key": "AK", "secret_key": "SK"})

    assert (await _list(client, _signed("AK", "SK")))[0] == 200
    assert (await _list(client, _signed("AK", "SK", x_project_id="p")))[0] == 200
    assert await _list(client, _signed("AK", "SK", x_project_id="q")) == (401, "Project ID does not match the token.")


async def test_wrong_signatures_lock_key(fake_dcs: FakeDcs, client: aiohttp.ClientSession, clock: FakeClock) -> None:
    """After too many wrong ones in a row even a right signature is rejected until the lock ends."""
    await fake_dcs.apply(auth={"mode": "aksk", "access_key": "AK", "secret_key": "SK", "lock_after": 2})
    for _ in range(2):
        assert "verify aksk signature fail" in (await _list(client, _signed("AK", "wrong")))[1]

    assert "forbidden" in (await _list(client, _signed("AK", "SK")))[1]
    clock.now += 300
    assert (await _list(client, _signed("AK", "SK")))[0] == 200


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({}, "no signature found"),
        ({"Authorization": "Bearer x"}, "no signature found"),
        ({"Authorization": "SDK-HMAC-SHA256 Access=NOBODY, SignedHeaders=x-sdk-date, Signature=0"}, "ak not exist"),
        (
            {
                "X-Sdk-Date": "20231114T222821Z",
                "Authorization": "SDK-HMAC-SHA256 Access=STANDINACCESSKEY0001, SignedHeaders=x-sdk-date, Signature=0",
            },
            "signature expired",
        ),
        (
            {
                "X-Sdk-Date": DATE,
                "Authorization": "SDK-HMAC-SHA256 Access=STANDINACCESSKEY0001, SignedHeaders=x-sdk-date, Signature=0",
            },
            "verify aksk signature fail",
        ),
    ],
)
async def test_rejected_signature_names_reason(
    fake_dcs: FakeDcs, client: aiohttp.ClientSession, headers: dict[str, str], text: str
) -> None:
    """Missing, unknown, more than 15 minutes off, wrong: each is a 401 that names the reason."""
    await fake_dcs.apply(auth={"mode": "aksk"})

    async with client.get(LIST, headers=headers) as reply:
        error = await reply.json()

    assert (reply.status, error["error_code"]) == (401, "APIGW.0301")
    assert text in error["error_msg"]
    assert error["request_id"] == reply.headers["X-Request-Id"]


async def test_clock_offset_changes_date_header(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """The service's clock can run ahead of ours: its answers have its date."""
    await fake_dcs.apply(clock_offset=3600)

    async with client.get(LIST) as reply:
        assert reply.headers["Date"] == "Tue, 14 Nov 2023 23:13:20 GMT"


async def test_metadata_service_needs_token(client: aiohttp.ClientSession) -> None:
    """A token is issued for a stated time only, and keys only to its holder."""
    async with client.put("/meta-data/latest/api/token") as without:
        assert without.status == 400
    async with client.get("/openstack/latest/securitykey") as refused:
        assert refused.status == 401


async def test_temporary_keys_need_security_token(
    fake_dcs: FakeDcs, client: aiohttp.ClientSession, clock: FakeClock
) -> None:
    """Temporary keys are accepted with their security token, until they expire."""
    await fake_dcs.apply(auth={"mode": "aksk", "temporary_key_seconds": 600})

    key = await _temporary(client)
    signed = _signed(key["access"], key["secret"])
    complete = {**signed, "X-Security-Token": key["securitytoken"]}

    assert key["expires_at"] == "2023-11-14T22:23:20.000000Z"
    assert (await _list(client, complete))[0] == 200
    assert "security token" in (await _list(client, signed))[1]
    clock.now += 600
    assert "has expired" in (await _list(client, complete))[1]

"""Authentication of the fake DCS: signed calls, and its own verification on vectors of the official SDK's signer."""

import hashlib
from collections.abc import Mapping

import aiohttp
import pytest

from tests.fakes.clock import FakeClock
from tests.unit.tools.fake_dcs.calls import DATE, LIST, list_tasks, signed
from worker.tools.fake_dcs import FakeDcs
from worker.tools.fake_dcs.authentication import (
    Authorization,
    canonical_request,
    is_signed_by,
    read_authorization,
    seconds_off,
)
from worker.tools.fake_dcs.faults import ErrorResponse

PROJECT = "0123456789abcdef0123456789abcdef"
SECRET_KEY = "SKexample0123456789abcdefghijklmnopqrstu"
BODY = (
    b'{"name":"dcs-migration-thrc","description":"Creating an online data migration task",'
    b'"vpc_id":"5e37b3be-950a-48e1-b498-65b63d336481","subnet_id":"40f15ed6-7f85-49d5-ba0e-65b940d4812c",'
    b'"security_group_id":"9df96622-24b7-4813-84b8-ab74552a21d7"}'
)
HEADERS = {
    "content-type": "application/json",
    "host": "dcs.cn-north-4.myhuaweicloud.com",
    "x-project-id": PROJECT,
    "x-sdk-date": "20240102T030405Z",
}
CREATE_CALL = ("POST", f"/v2/{PROJECT}/migration/instance", HEADERS, BODY)
LIST_CALL = (
    "GET",
    f"/v2/{PROJECT}/migration-tasks?offset=0&limit=100&name=dcs-mig_%7E%C3%A9%20x",
    HEADERS | {"x-security-token": "STSTOKENexample=="},
    b"",
)
CREATE_SIGNATURE = "564663a8290e857a466e89de5bf5eb106cc4709874509d28b3f9992fe242de55"
LIST_SIGNATURE = "a6b9383bcec160b19ad666f85fd6763c766da12e5c08a3ae50adcc58329029b4"

Request = tuple[str, str, Mapping[str, str], bytes]


def _holds(request: Request, signature: str, secret: str = SECRET_KEY, signed: tuple[str, ...] | None = None) -> bool:
    method, target, headers, body = request
    authorization = Authorization("AK", signed or tuple(sorted(headers)), signature)
    return is_signed_by(secret, authorization, method, target, headers, body)


@pytest.mark.parametrize(
    ("request_", "canonical_hash", "signature"),
    [
        (CREATE_CALL, "fc9e76f446b5c64ec5adf4af0bbf38553861abe6d0ff6de7e17447f750e8edc9", CREATE_SIGNATURE),
        (LIST_CALL, "bcc6a3bee5be74b660583cf21353351d9692455df7919df39d0e70b0e7b71fb2", LIST_SIGNATURE),
    ],
)
def test_official_vectors_are_valid(request_: Request, canonical_hash: str, signature: str) -> None:
    """Canonical request and signature of both vectors are the official ones."""
    method, target, headers, body = request_

    canonical = canonical_request(method, target, headers, tuple(sorted(headers)), body)

    assert hashlib.sha256(canonical).hexdigest() == canonical_hash
    assert _holds(request_, signature)


@pytest.mark.parametrize(
    "forged",
    [
        ("GET", *CREATE_CALL[1:]),
        ("POST", f"/v2/{'f' * 32}/migration/instance", HEADERS, BODY),
        ("POST", CREATE_CALL[1] + "?force=1", HEADERS, BODY),
        ("POST", CREATE_CALL[1], HEADERS | {"x-project-id": "f" * 32}, BODY),
        ("POST", CREATE_CALL[1], HEADERS | {"x-sdk-date": "20240102T030406Z"}, BODY),
        ("POST", CREATE_CALL[1], HEADERS, BODY.replace(b"thrc", b"thrd")),
    ],
)
def test_changed_request_is_invalid(forged: Request) -> None:
    """Method, path, query, each signed header and the body are covered by the signature."""
    assert not _holds(forged, CREATE_SIGNATURE)


def test_other_key_is_invalid() -> None:
    """The signature depends on the secret key."""
    assert not _holds(CREATE_CALL, CREATE_SIGNATURE, secret=SECRET_KEY + "x")


def test_unsigned_date_or_missing_header_is_invalid() -> None:
    """A signature that could be replayed without limit, or that names a missing header, is invalid."""
    assert not _holds(CREATE_CALL, CREATE_SIGNATURE, signed=("content-type", "host", "x-project-id"))
    assert not _holds(CREATE_CALL, CREATE_SIGNATURE, signed=(*sorted(HEADERS), "x-absent"))


def test_plus_sign_is_no_space() -> None:
    """The protocol writes a space as %20; a plus sign in the query is a plus sign."""
    plain = canonical_request("GET", "/x?name=a+b", HEADERS, ("x-sdk-date",), b"")

    assert b"\nname=a%2Bb\n" in plain


def test_the_query_is_sorted_by_name_then_value() -> None:
    """The order on the wire does not matter."""
    canonical = canonical_request("GET", "/x/?b=2&a=2&a=1&c", HEADERS, ("x-sdk-date",), b"")

    assert canonical.startswith(b"GET\n/x/\na=1&a=2&b=2&c=\n")


def test_authorization_is_parsed() -> None:
    """The header's three parts are separated."""
    text = "SDK-HMAC-SHA256 Access=AK, SignedHeaders=host;x-sdk-date, Signature=00ff"

    assert read_authorization(text) == Authorization("AK", ("host", "x-sdk-date"), "00ff")


@pytest.mark.parametrize("text", ["", "Bearer abc", "SDK-HMAC-SHA256 Access=AK", "AWS4-HMAC-SHA256 Access=A, B=C"])
def test_other_authorization_is_rejected(text: str) -> None:
    """A header that is not SDK-HMAC-SHA256 with its three parts is an error."""
    with pytest.raises(ErrorResponse, match="no signature found"):
        read_authorization(text)


def test_the_clock_difference_is_measured_in_utc() -> None:
    """A date is compared with epoch seconds in either direction."""
    assert seconds_off("19700101T001500Z", 0.0) == 900.0
    assert seconds_off("19700101T000000Z", 60.0) == 60.0


# Calls


async def test_right_signature_is_accepted(fake_dcs: FakeDcs, client: aiohttp.ClientSession) -> None:
    """The right key is accepted; a project header that contradicts the path is rejected."""
    await fake_dcs.apply(auth={"mode": "aksk", "access_key": "AK", "secret_key": "SK"})

    assert (await list_tasks(client, signed("AK", "SK")))[0] == 200
    assert (await list_tasks(client, signed("AK", "SK", x_project_id="p")))[0] == 200
    assert await list_tasks(client, signed("AK", "SK", x_project_id="q")) == (
        401,
        "Project ID does not match the token.",
    )


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


async def test_wrong_signatures_lock_key(fake_dcs: FakeDcs, client: aiohttp.ClientSession, clock: FakeClock) -> None:
    """After too many wrong ones in a row even a right signature is rejected until the lock ends."""
    await fake_dcs.apply(auth={"mode": "aksk", "access_key": "AK", "secret_key": "SK", "lock_after": 2})
    for _ in range(2):
        assert "verify aksk signature fail" in (await list_tasks(client, signed("AK", "wrong")))[1]

    assert "forbidden" in (await list_tasks(client, signed("AK", "SK")))[1]
    clock.now += 300
    assert (await list_tasks(client, signed("AK", "SK")))[0] == 200

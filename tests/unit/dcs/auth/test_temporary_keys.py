"""The one reader of temporary keys: each spelling, and replies that hold none."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.unit.dcs.fakes import a_client, reply, timing_of
from worker.dcs.auth.cached_credential import Credential
from worker.dcs.auth.signing import Keys
from worker.dcs.auth.workload_identity import OidcAgency, key_source
from worker.policy.call_result import CallError, ErrorKind, Evidence

END = datetime(2030, 1, 8, 3, 50, 7, 574_000, tzinfo=UTC)
SPELLINGS = [
    ("credential", ("access", "secret", "securitytoken", "expires_at"), "2030-01-08T03:50:07.574000Z"),
    ("credentials", ("accessKeyId", "secretAccessKey", "securityToken", "expiration"), "2030-01-08T03:50:07.574000Z"),
    ("credentials", ("access_key_id", "secret_access_key", "security_token", "expiration"), "2030-01-08T03:50:07.574"),
]


async def fetched(clock: FakeClock, status: int, body: Any) -> Credential[Keys] | CallError:
    """What becomes of a reply."""
    agency = OidcAgency("https://sts", "provider", "agency", "SHOWN-TOKEN", "session", 3600)
    return await key_source(
        agency, lambda timeout: a_client(lambda _: reply(status, json=body), timeout), timing_of(clock)
    ).fetch()


@pytest.mark.parametrize(("member", "names", "end"), SPELLINGS)
async def test_each_spelling_is_read(member: str, names: tuple[str, ...], end: str) -> None:
    """Metadata and the old IAM, pod identity, STS; a time without zone is UTC; other members are ignored."""
    clock = FakeClock(END.timestamp() - 900)
    body = {member: dict(zip(names, ("AK", "SK", "TOKEN", end), strict=True)), "audience": "x"}

    found = await fetched(clock, 200, body)

    assert isinstance(found, Credential)
    assert found.value == Keys("AK", "SK", "TOKEN")
    assert (found.renew_at, found.until) == (END.timestamp() - 300, END.timestamp())


@pytest.mark.parametrize(
    ("status", "body", "label", "words"),
    [
        (200, {}, "iam", "the keys of STS cannot be read"),
        (200, {"credentials": {"access_key_id": "AK"}}, "iam", "the keys of STS cannot be read"),
        (500, {}, "iam", "STS gave no keys (HTTP 500: no reason given)"),
        (429, {"error_msg": "slow", "error_code": "STS.9"}, "iam", "STS gave no keys (HTTP 429: slow)"),
        (403, {"error_msg": "not SHOWN-TOKEN\n", "error_code": "STS.1"}, "credentials",
         "STS refuses keys (HTTP 403: not ***)"),
    ],
)  # fmt: skip
async def test_reply_without_keys_is_a_transient_error(status: int, body: Any, label: str, words: str) -> None:
    """No request fails for it, it is asked again later, and the token that was shown is not repeated."""
    error = await fetched(FakeClock(), status, body)

    assert isinstance(error, CallError)
    assert (error.evidence, error.kind, error.label, error.message) == (
        Evidence.NEVER_SENT,
        ErrorKind.RETRY,
        label,
        words,
    )
    assert error.retry_after

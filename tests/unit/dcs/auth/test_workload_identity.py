"""The workload's token: read at each fetch, and what stops a fetch before anything is sent."""

from json import loads
from pathlib import Path

import httpx2
import pytest

from tests.fakes.clock import FakeClock
from tests.unit.dcs.fakes import a_client, reply, timing_of
from worker.dcs.auth.temporary_keys import KeySource
from worker.dcs.auth.workload_identity import Federation, Identity, OidcAgency, PodIdentity, key_source
from worker.policy.call_result import CallError


class Service:
    """Records what it is asked, and gives no keys."""

    def __init__(self) -> None:
        self.asked: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one call."""
        self.asked.append(request)
        return reply(503)


def source_of(identity: Identity, service: Service, clock: FakeClock) -> KeySource:
    """The source of keys over a service."""
    return key_source(identity, lambda timeout: a_client(service, timeout), timing_of(clock))


async def test_token_file_is_read_at_each_fetch(tmp_path: Path) -> None:
    """The agent gets the bare token of the moment, and an empty object."""
    service, clock, path = Service(), FakeClock(), tmp_path / "token"
    source = source_of(PodIdentity("http://169.254.1.1/v1?a=b", path), service, clock)
    for token in ("one", "two"):
        path.write_text(f"{token}\n")
        await source.fetch()
        clock.now += 60

    assert [(str(it.url), it.headers["Authorization"], it.content) for it in service.asked] == [
        ("http://169.254.1.1/v1?a=b", "one", b"{}"),
        ("http://169.254.1.1/v1?a=b", "two", b"{}"),
    ]


async def test_optional_members_are_sent_to_sts() -> None:
    """Policies that narrow the keys, and what is always sent; the call carries no credential."""
    service = Service()
    agency = OidcAgency("https://sts", "p", "a", "token", "s", 900, {"policy": "{}", "policy_ids": ("x", "y")})
    await source_of(agency, service, FakeClock()).fetch()

    (request,) = service.asked
    assert loads(request.content) == {
        "provider_urn": "p",
        "agency_urn": "a",
        "agency_session_name": "s",
        "id_token": "token",
        "duration_seconds": 900,
        "policy": "{}",
        "policy_ids": ["x", "y"],
    }
    assert not {"authorization", "x-auth-token", "x-sdk-date"} & request.headers.keys()


@pytest.mark.parametrize(
    ("endpoint", "content", "words"),
    [
        ("https://iam", None, "cannot be read (No such file or directory)"),
        ("https://iam", b"", "holds no token"),
        ("https://iam", b"two words", "holds no token"),
        ("https://iam", b"\xff", "holds no token"),
        ("https://iam", b"x" * 65_537, "holds no token"),
        ("", b"token", "set WORKER_IAM_ENDPOINT"),
    ],
)
async def test_fetch_without_token_or_address_sends_nothing(
    tmp_path: Path, endpoint: str, content: bytes | None, words: str
) -> None:
    """A file that is missing or holds no token, and an unknown address of IAM, are said."""
    service, path = Service(), tmp_path / "token"
    if content is not None:
        path.write_bytes(content)

    error = await source_of(Federation(endpoint, "idp", path), service, FakeClock()).fetch()

    assert isinstance(error, CallError)
    assert error.label == "credentials"
    assert words in error.message
    assert service.asked == []

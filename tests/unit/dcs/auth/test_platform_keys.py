"""Temporary keys of the metadata service: fetched once, renewed ahead of their end, nobody waits in between."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.fakes.clock import FakeClock, run_ready_tasks
from tests.unit.dcs.fakes import FakeMetadata, a_client, reply, timing_of, until
from worker.dcs.auth.platform_keys import platform_signer
from worker.dcs.auth.signing import KeySigner
from worker.policy.call_result import CallError, ErrorKind, Evidence

DAY = 86_400.0
ADDRESS = "http://metadata"


@pytest.fixture
def clock() -> FakeClock:
    """The time."""
    return FakeClock()


@pytest.fixture
def service(clock: FakeClock) -> FakeMetadata:
    """A healthy metadata service."""
    return FakeMetadata(clock)


def platform(service: FakeMetadata) -> KeySigner:
    """Credentials over the service."""
    return platform_signer(None, lambda timeout: a_client(service, timeout), ADDRESS, timing_of(service.clock, 0.5))


@pytest.fixture
async def credentials(service: FakeMetadata) -> AsyncIterator[KeySigner]:
    """Credentials with chance in the middle."""
    made = platform(service)
    yield made
    await made.aclose()


async def signed(credentials: KeySigner) -> httpx2.Request:
    """A signed request."""
    request = httpx2.Request("GET", "https://dcs/v2/p/migration-tasks")
    assert await credentials.authorise(request, "p") is None
    return request


async def key_of(credentials: KeySigner) -> str:
    """The access key that a request is signed with now, and its security token."""
    request = await signed(credentials)
    access = request.headers["Authorization"].partition("Access=")[2].partition(",")[0]
    return f"{access} {request.headers['X-Security-Token']}"


async def fault_of(credentials: KeySigner) -> CallError:
    """Why a request cannot be signed now."""
    fault = await credentials.authorise(httpx2.Request("GET", "https://dcs/"), "p")
    assert fault is not None
    return fault


async def test_keys_are_fetched_once(credentials: KeySigner, service: FakeMetadata) -> None:
    """Fifty requests at once cost one token and one key call, whatever their project."""
    assert set(await asyncio.gather(*(key_of(credentials) for _ in range(50)))) == {"ACCESS1 SECURITYTOKEN1"}
    assert service.asked == [
        "PUT http://metadata/meta-data/latest/api/token",
        "GET http://metadata/openstack/latest/securitykey",
    ]


@pytest.mark.parametrize(("life", "left"), [(DAY, 600.0), (1_800.0, 600.0), (900.0, 300.0), (60.0, 20.0)])
async def test_keys_are_renewed_in_time(service: FakeMetadata, life: float, left: float) -> None:
    """When a third of their life is left, and at most ten minutes before their end."""
    service.life = life
    credentials = platform(service)
    await key_of(credentials)
    await service.clock.advance(life - left - 1)
    assert await key_of(credentials) == "ACCESS1 SECURITYTOKEN1"
    await run_ready_tasks()
    assert service.given == 1

    await service.clock.advance(1.1)
    await credentials.authorise(httpx2.Request("GET", "https://dcs/"), "p")
    await run_ready_tasks()
    assert service.given == 2
    await credentials.aclose()


async def test_calls_do_not_wait_for_a_renewal(credentials: KeySigner, service: FakeMetadata, clock: FakeClock) -> None:
    """While new keys are fetched the valid ones serve."""
    await key_of(credentials)
    await clock.advance(DAY - 600)
    service.held = True

    assert {await key_of(credentials) for _ in range(5)} == {"ACCESS1 SECURITYTOKEN1"}
    await until(lambda: len(service.asked) == 3)
    service.held = False
    await run_ready_tasks()
    assert (await key_of(credentials), service.given) == ("ACCESS2 SECURITYTOKEN2", 2)


async def test_the_same_keys_again_are_no_reason_to_storm(
    credentials: KeySigner, service: FakeMetadata, clock: FakeClock
) -> None:
    """A service that gives no newer keys before the end, nor after it, is asked now and then."""
    service.is_fixed = True
    await key_of(credentials)
    await clock.advance(DAY - 600)
    service.asked.clear()

    for _ in range(600):
        assert await key_of(credentials) == "ACCESS1 SECURITYTOKEN1"
        await clock.advance(1)
    assert len(service.asked) <= 20

    service.asked.clear()
    for _ in range(60):
        assert "past their end" in (await fault_of(credentials)).message
        await clock.advance(1)
    assert len(service.asked) <= 20

    service.is_fixed = False
    await clock.advance(15)
    assert await key_of(credentials) == "ACCESS2 SECURITYTOKEN2"


async def test_a_service_without_tokens_is_asked_without(credentials: KeySigner, service: FakeMetadata) -> None:
    """The first version of the service knows no tokens and wants none."""
    service.token_status = 404

    assert await key_of(credentials) == "ACCESS1 SECURITYTOKEN1"


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (reply(500), "HTTP 500"),
        (reply(401, text="Please configure Cloud Service Agency first"), "this server has no agency"),
        (reply(200, text="<html>"), "cannot be read"),
        (reply(200, json={"credential": {"access": "A"}}), "cannot be read"),
        (
            reply(
                200,
                json={
                    "credential": {
                        "access": "A",
                        "secret": "SHOWN\n",
                        "securitytoken": "T",
                        "expires_at": "2030-01-01T00:00:00Z",
                    }
                },
            ),
            "cannot be read",
        ),
    ],
)
async def test_no_keys_are_a_transient_fault(
    credentials: KeySigner, service: FakeMetadata, clock: FakeClock, reply: httpx2.Response, words: str
) -> None:
    """No request is burnt, the service is not stormed, no key is quoted, and later it works by itself."""
    service.key_reply = reply
    fault = await fault_of(credentials)
    assert (fault.evidence, fault.kind, fault.label) == (Evidence.NEVER_SENT, ErrorKind.RETRY, "metadata")
    assert words in fault.message
    assert "SHOWN" not in f"{fault} {credentials!r}"
    assert (await fault_of(credentials)).retry_after == fault.retry_after
    assert len(service.asked) == 2

    service.key_reply = None
    await clock.advance(fault.retry_after or 0)
    assert await key_of(credentials) == "ACCESS1 SECURITYTOKEN1"


async def test_a_token_call_that_fails_is_the_end_of_it(credentials: KeySigner, service: FakeMetadata) -> None:
    """Without a metadata token, keys are not even asked for."""
    service.token_status = 500

    assert "HTTP 500" in (await fault_of(credentials)).message
    assert len(service.asked) == 1


async def test_refused_keys_are_fetched_anew_once(
    credentials: KeySigner, service: FakeMetadata, clock: FakeClock
) -> None:
    """Requests refused with the same keys cost one fetch; keys so fetched and refused too are not replaced."""
    refused = [await signed(credentials) for _ in range(20)]
    await clock.advance(1)
    assert all(await asyncio.gather(*(credentials.renew("p", request) for request in refused)))
    again = await asyncio.gather(*(signed(credentials) for _ in refused))
    assert service.given == 2

    assert await credentials.renew("p", refused[0])
    assert not await credentials.renew("p", again[0])
    assert service.given == 2


async def test_a_wrong_clock_is_said(credentials: KeySigner) -> None:
    """A refusal with another time of day is explained."""
    assert "20 min ahead" in (credentials.explain(1200.0) or "")


async def test_no_key_is_shown(credentials: KeySigner) -> None:
    """The repr of everything that holds keys has none."""
    await key_of(credentials)

    shown = f"{credentials!r} {vars(credentials)} {vars(credentials._temporary)}"

    assert "ACCESS1" not in shown
    assert "SECRET1" not in shown

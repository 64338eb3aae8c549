"""Tokens of IAM: one per project, fetched once, renewed while the old one serves, refreshed once when refused."""

import asyncio
from collections.abc import AsyncIterator
from email.utils import formatdate

import httpx2
import pytest

from tests.fakes.clock import FakeClock, run_ready_tasks
from tests.unit.dcs.fakes import FakeIam, a_client, reply, stamp, timing_of, until
from worker.dcs.auth import iam as iam_module
from worker.dcs.auth.iam import IamTokens
from worker.dcs.auth.iam_login import Account
from worker.policy.call_result import CallError, ErrorKind, Evidence

ACCOUNT = Account("https://iam", "user", "domain")
DAY = 86_400.0


@pytest.fixture
def clock() -> FakeClock:
    """The time."""
    return FakeClock()


@pytest.fixture
def fake(clock: FakeClock) -> FakeIam:
    """A healthy IAM."""
    return FakeIam(clock)


@pytest.fixture
async def tokens(clock: FakeClock, fake: FakeIam) -> AsyncIterator[IamTokens]:
    """Tokens that are renewed in the middle of their last tenth."""
    made = IamTokens(ACCOUNT, lambda: "right", a_client(fake), timing=timing_of(clock, 0.5))
    yield made
    await made.aclose()


async def authorised(tokens: IamTokens, project: str = "p") -> httpx2.Request:
    """A request with a token."""
    request = httpx2.Request("GET", "https://dcs/")
    assert await tokens.authorise(request, project) is None
    return request


async def token_of(tokens: IamTokens, project: str = "p") -> str:
    """The token that a request gets now."""
    return (await authorised(tokens, project)).headers["X-Auth-Token"]


async def fault_of(tokens: IamTokens, project: str = "p") -> CallError:
    """Why a request gets no token now."""
    fault = await tokens.authorise(httpx2.Request("GET", "https://dcs/"), project)
    assert fault is not None
    return fault


async def test_one_call_however_many_wait(tokens: IamTokens, fake: FakeIam) -> None:
    """A hundred requests of two projects at once cost two token calls, one after the other."""
    fake.held = True
    waiting = [asyncio.create_task(token_of(tokens, project)) for _ in range(50) for project in ("p", "q")]
    await until(lambda: bool(fake.asked))
    await run_ready_tasks()
    fake.held = False

    assert set(await asyncio.gather(*waiting)) == {"token-p-1", "token-q-2"}
    assert (fake.asked, fake.most_at_once) == ([("p", "right"), ("q", "right")], 1)


async def test_a_token_is_kept_until_late_in_its_life(tokens: IamTokens, fake: FakeIam, clock: FakeClock) -> None:
    """Before the last tenth of its life, here before the middle of it, no second call is made."""
    await token_of(tokens)
    await clock.advance(DAY * 0.949)

    assert await token_of(tokens) == "token-p-1"
    await run_ready_tasks()
    assert len(fake.asked) == 1


async def test_calls_do_not_wait_for_a_renewal(tokens: IamTokens, fake: FakeIam, clock: FakeClock) -> None:
    """In the last tenth the old token serves while another one is fetched, once."""
    await token_of(tokens)
    await clock.advance(DAY * 0.951)
    fake.held = True

    assert [await token_of(tokens) for _ in range(5)] == ["token-p-1"] * 5
    await until(lambda: len(fake.asked) == 2)
    fake.held = False
    await run_ready_tasks()
    assert (await token_of(tokens), len(fake.asked)) == ("token-p-2", 2)


@pytest.mark.parametrize("random_unit", [0.0, 0.3, 0.999])
async def test_the_point_of_renewal_is_random(clock: FakeClock, fake: FakeIam, random_unit: float) -> None:
    """It lies anywhere in the last tenth of the token's life, so that replicas do not renew together."""
    tokens = IamTokens(ACCOUNT, lambda: "right", a_client(fake), timing=timing_of(clock, random_unit))
    await token_of(tokens)
    await clock.advance(DAY * (1 - 0.1 * random_unit) - 1)
    await token_of(tokens)
    await run_ready_tasks()
    assert len(fake.asked) == 1

    await clock.advance(2)
    await token_of(tokens)
    await run_ready_tasks()
    assert len(fake.asked) == 2
    await tokens.aclose()


async def test_a_failed_renewal_fails_no_call(tokens: IamTokens, fake: FakeIam, clock: FakeClock) -> None:
    """While IAM is away the old token serves to its end, and IAM is asked again only now and then."""
    await token_of(tokens)
    fake.outage = reply(503)
    await clock.advance(DAY * 0.96)

    for _ in range(120):
        assert await token_of(tokens) == "token-p-1"
        await clock.advance(1)

    assert 3 <= len(fake.asked) - 1 <= 20


async def test_the_clock_of_this_machine_does_not_matter(tokens: IamTokens, fake: FakeIam, clock: FakeClock) -> None:
    """A token's life is measured between two times of IAM's clock, be that two days off."""
    fake.ahead = -2 * DAY
    await token_of(tokens)
    await clock.advance(DAY * 0.9)

    assert await token_of(tokens) == "token-p-1"


async def test_a_token_without_an_end_is_used_for_a_while(clock: FakeClock) -> None:
    """A reply that does not tell how long its token is valid still serves, for ten minutes."""
    calls: list[int] = []

    def answer(_: httpx2.Request) -> httpx2.Response:
        calls.append(1)
        return reply(201, json={"token": {}}, headers={"X-Subject-Token": f"t{len(calls)}"})

    tokens = IamTokens(ACCOUNT, lambda: "right", a_client(answer), timing=timing_of(clock))
    assert await token_of(tokens) == "t1"
    await clock.advance(599)
    assert await token_of(tokens) == "t1"
    await clock.advance(1)
    assert await token_of(tokens) == "t2"
    await tokens.aclose()


@pytest.mark.parametrize("apart", [0.0, 2 * DAY, -2 * DAY])
@pytest.mark.parametrize("is_dated", [True, False])
async def test_the_end_alone_tells_how_long_a_token_lives(clock: FakeClock, apart: float, is_dated: bool) -> None:
    """A reply without the time of issue is measured by its Date header, else by this clock: never ten minutes."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        theirs = clock() + (apart if is_dated else 0.0)
        headers = {"X-Subject-Token": f"t{clock():.0f}"} | (
            {"Date": formatdate(theirs, usegmt=True)} if is_dated else {}
        )
        return reply(201, json={"token": {"expires_at": stamp(theirs + 20.0)}}, headers=headers)

    tokens = IamTokens(ACCOUNT, lambda: "right", a_client(answer), timing=timing_of(clock))
    first = await token_of(tokens)
    await clock.advance(18.5)
    assert await token_of(tokens) == first
    await clock.advance(1.6)
    assert await token_of(tokens) != first
    await tokens.aclose()


async def test_tokens_that_end_in_flight_are_no_refusals(tokens: IamTokens, fake: FakeIam, clock: FakeClock) -> None:
    """Calls that leave with a token just before its end are refused, end after end: each is worth another try."""
    fake.life = 6.0
    for _ in range(5):
        request = await authorised(tokens)
        await clock.advance(6.0)
        assert await tokens.renew("p", request)
        assert await token_of(tokens) != request.headers["X-Auth-Token"]


async def test_refusals_at_once_cost_one_call(tokens: IamTokens, fake: FakeIam) -> None:
    """Fifty requests refused with the same token get one other token; a late one just uses that."""
    refused = [await authorised(tokens) for _ in range(50)]

    async def again(request: httpx2.Request) -> str:
        assert await tokens.renew("p", request)
        return await token_of(tokens)

    assert set(await asyncio.gather(*map(again, refused[1:]))) == {"token-p-2"}
    assert await again(refused[0]) == "token-p-2"
    assert len(fake.asked) == 2


async def test_a_renewed_token_that_is_refused_too_is_the_end(tokens: IamTokens, clock: FakeClock) -> None:
    """A token fetched because of a refusal and refused itself is not replaced, until a minute has passed."""
    assert await tokens.renew("p", await authorised(tokens))
    second = await authorised(tokens)

    assert not await tokens.renew("p", second)
    await clock.advance(60)
    assert await tokens.renew("p", second)
    assert await token_of(tokens) == "token-p-3"


@pytest.mark.parametrize(
    "outage",
    [
        reply(503),
        reply(500, text="<html>"),
        reply(429),
        reply(302),
        reply(201),
        ConnectionError("no"),
    ],
)
async def test_iam_being_down_is_transient(
    tokens: IamTokens, fake: FakeIam, clock: FakeClock, outage: httpx2.Response | Exception
) -> None:
    """No request is burnt or blamed, IAM is not stormed, and afterwards it works again by itself."""
    fake.outage = outage
    fault = await fault_of(tokens)
    assert (fault.evidence, fault.kind, fault.label) == (Evidence.NEVER_SENT, ErrorKind.RETRY, "iam")
    assert fault.retry_after is not None
    assert 0 < fault.retry_after <= 15

    for project in ("p", "q", "r"):
        assert (await fault_of(tokens, project)).label == "iam"
    assert len(fake.asked) == 1

    fake.outage = None
    await clock.advance(15)
    assert await token_of(tokens) == "token-p-2"


async def test_iam_may_ask_for_a_pause(tokens: IamTokens, fake: FakeIam, clock: FakeClock) -> None:
    """The server's word beats ours."""
    fake.outage = reply(429, headers={"Retry-After": "40"})
    assert (await fault_of(tokens)).retry_after == 40
    fake.outage = None
    await clock.advance(39)
    assert (await fault_of(tokens)).retry_after == 1
    await clock.advance(1)
    assert await token_of(tokens) == "token-p-2"


async def test_waiting_has_an_end(tokens: IamTokens, fake: FakeIam, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the queue for IAM is, a request waits for a bounded time, and the fetch goes on without it."""
    monkeypatch.setattr("worker.dcs.auth.cached_credential.MAX_CREDENTIAL_WAIT_SECONDS", 0.01)
    fake.held = True

    fault = await fault_of(tokens)

    assert (fault.evidence, fault.label) == (Evidence.NEVER_SENT, "iam")
    fake.held = False
    await run_ready_tasks()
    assert (await token_of(tokens), len(fake.asked)) == ("token-p-1", 1)


async def test_a_caller_that_goes_away_takes_nothing_with_it(tokens: IamTokens, fake: FakeIam) -> None:
    """A cancelled request does not cancel the fetch that others wait for."""
    fake.held = True
    first, second = (asyncio.create_task(token_of(tokens)) for _ in range(2))
    await until(lambda: bool(fake.asked))
    first.cancel()
    await run_ready_tasks()
    fake.held = False

    assert await second == "token-p-1"
    assert first.cancelled()


async def test_the_least_recently_used_project_is_forgotten(
    tokens: IamTokens, fake: FakeIam, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of kept tokens is bounded."""
    monkeypatch.setattr(iam_module, "MAX_PROJECTS", 3)
    for project in ("a", "b", "c", "a", "d"):
        await token_of(tokens, project)
    assert len(fake.asked) == 4

    assert [await token_of(tokens, project) for project in ("a", "c", "d")] == ["token-a-1", "token-c-3", "token-d-4"]
    assert await token_of(tokens, "b") == "token-b-5"
    assert repr(tokens).startswith("<IamTokens of 3 projects")


async def test_a_project_that_is_waited_for_is_not_forgotten(
    tokens: IamTokens, fake: FakeIam, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even beyond the bound there is one fetch per project, and everybody gets their token."""
    monkeypatch.setattr(iam_module, "MAX_PROJECTS", 1)
    fake.held = True
    waiting = [asyncio.create_task(token_of(tokens, project)) for project in ("p", "q", "p", "q")]
    await until(lambda: bool(fake.asked))
    fake.held = False

    assert await asyncio.gather(*waiting) == ["token-p-1", "token-q-2", "token-p-1", "token-q-2"]


async def test_closing_ends_what_is_under_way(clock: FakeClock, fake: FakeIam) -> None:
    """A fetch that IAM does not answer does not outlive the credentials; who waits for it gets a fault."""
    tokens = IamTokens(ACCOUNT, lambda: "right", a_client(fake), timing=timing_of(clock))
    fake.held = True
    waiting = asyncio.create_task(fault_of(tokens))
    await until(lambda: bool(fake.asked))

    await tokens.aclose()

    assert (await waiting).label == "iam"

"""Credentials against the fake DCS, which verifies tokens and signatures with an independent implementation."""

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from schemas.request import Request, Task
from tests.fakes.clock import FakeClock
from tests.fakes.faulty_dcs import FaultyDcs
from tests.unit.dcs.fakes import timing_of
from worker.bootstrap.components import platform_identity
from worker.bootstrap.components import profile as platform_profile
from worker.config import load
from worker.dcs.auth.auth_method import AuthMethod
from worker.dcs.auth.iam_login import Account
from worker.dcs.auth.methods import auth_method
from worker.dcs.auth.signing import skew
from worker.dcs.client import DcsClient
from worker.dcs.http_client import HttpClient, new_request
from worker.dcs.transport import ServiceTransport
from worker.policy.call_result import CallError, TaskCreated, TaskFound
from worker.policy.freeze_detector import FreezeDetector
from worker.policy.migration_request import MigrationRequest, migration
from worker.tools.fake_dcs import platform as platform_services

PASSWORD = "stand-in-password"
WORKLOAD_TOKEN = "stand-in-workload-token"
SECRET_KEY = "stand-in-secret-key-of-forty-characters0"
IDS = {"vpc_id": "v", "subnet_id": "s", "security_group_id": "g"}
ODD = [
    "a b+c&d=é~",
    "100%",
    "%41%2F",
    "a/b?c#d",
    "..",
    "../..",
    ";,:@!$'()*",
    '"<>[]{}|\\^`',
    "测试-тест-🙂",
    "a\u2028\ufeff\u200b-",
    "x" * 1024,
    "&offset=5&limit=1",
    "+",
    "a b",
]


def an_order(name: str, project: str = "p") -> MigrationRequest:
    """An order of a task of this name."""
    request = Request(project_id=project, task=Task(name=name, **IDS))
    return migration(request, default_region="r", with_marker=True)


async def _go() -> bool:
    return True


class Work:
    """A client whose credentials come from secret files, and all that it said."""

    def __init__(self, fake_dcs: FaultyDcs, folder: Path, clock: FakeClock) -> None:
        self.fake_dcs = fake_dcs
        self.folder = folder
        self.clock = clock
        self.faults: list[CallError] = []
        self.credentials: AuthMethod
        self.client: DcsClient
        self.http: HttpClient

    def write(self, **secrets: str) -> None:
        """Replace secret files, each in one step."""
        for name, secret in secrets.items():
            new = self.folder / f".{name}"
            new.write_text(secret)
            new.rename(self.folder / name)

    async def create(self, name: str, project: str = "p") -> TaskCreated | CallError:
        """Create a task."""
        ending = await self.client.create(an_order(name, project), _go)
        if isinstance(ending, CallError):
            self.faults.append(ending)
        return ending

    def token_calls(self) -> Counter[str | None]:
        """Token calls so far, by project."""
        return Counter(call.project for call in self.fake_dcs.calls if call.operation == "token")


@asynccontextmanager
async def working(
    folder: Path, auth: dict[str, Any], environ: dict[str, str], profile: str = "", **secrets: str
) -> AsyncIterator[Work]:
    """A fake DCS that demands credentials, and a client with the configured ones."""
    clock = FakeClock()
    transport = ServiceTransport(ssl.create_default_context(), 20)
    try:
        async with FaultyDcs(clock=clock, auth=auth) as fake_dcs:
            work = Work(fake_dcs, folder, clock)
            work.write(**secrets)
            (folder / "token").write_text(f"{WORKLOAD_TOKEN}\n")
            if profile:
                (folder / "profile").write_text(profile.format(folder=folder))
            urls = {"WORKER_SECRETS_DIR": str(folder), "WORKER_IAM_ENDPOINT": fake_dcs.url}
            named = {
                name: value.format(url=fake_dcs.url, folder=folder, token_file=folder / "token")
                for name, value in environ.items()
            }
            loaded = load(urls | named, folder=folder)
            freeze_detector = FreezeDetector(lambda: 0.0)

            def http_client(deadline: float) -> HttpClient:
                return HttpClient(transport, deadline=deadline, freeze_detector=freeze_detector)

            account = Account(fake_dcs.url, loaded.settings.iam_user or "", loaded.settings.iam_domain or "")
            work.credentials = auth_method(
                loaded.settings.auth_method,
                loaded.secrets.current,
                http_client,
                account=account,
                platform=platform_identity(loaded) or platform_profile(loaded.settings),
                metadata_address=fake_dcs.url,
                timing=timing_of(clock, 0.5),
            )
            work.http = http_client(20)
            work.client = DcsClient(work.http, work.credentials, {"r": fake_dcs.url}, now=clock)
            yield work
            await work.credentials.aclose()
    finally:
        await transport.aclose()


@pytest.fixture
async def iam(tmp_path: Path) -> AsyncIterator[Work]:
    """Work with tokens of IAM that live for ten minutes; an account is locked after three wrong passwords."""
    auth = {"mode": "iam", "token_seconds": 600, "lock_after": 3}
    environ = {"WORKER_IAM_USER": "stand-in-user", "WORKER_IAM_DOMAIN": "stand-in-domain"}
    async with working(tmp_path, auth, environ, worker_iam_password=PASSWORD) as work:
        yield work


@pytest.fixture
async def keys(tmp_path: Path) -> AsyncIterator[Work]:
    """Work with an access key."""
    secrets = {"worker_access_key": "STANDINACCESSKEY0001", "worker_secret_key": SECRET_KEY}
    async with working(tmp_path, {"mode": "aksk"}, {}, **secrets) as work:
        yield work


WAYS: dict[str, dict[str, str]] = {
    **platform_services.WAYS,
    "profile": {"HUAWEICLOUD_SDK_CREDENTIALS_FILE": "{folder}/profile"},
    "metadata": {},
}
PROFILE = f"[basic]\nidp_id = {platform_services.IDP_ID}\nid_token_file = {{folder}}/token\n"


@pytest.fixture(params=WAYS)
async def platform(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Work]:
    """Work with keys of the platform that live for ten minutes, by each way."""
    auth = {"mode": "platform", "temporary_key_seconds": 600}
    environ = {"WORKER_CREDENTIALS": "platform", **WAYS[request.param]}
    profile = PROFILE if request.param == "profile" else ""
    async with working(tmp_path, auth, environ, profile) as work:
        yield work


async def five_hundred(work: Work, halfway: Callable[[], Awaitable[object]], seconds: float = 0.0) -> None:
    """500 creates in five projects, 25 at once, time passing with each; `halfway` happens in the middle."""
    limit = asyncio.Semaphore(25)

    async def one(number: int) -> None:
        async with limit:
            if number == 250:
                await halfway()
            work.clock.now += seconds
            await work.create(f"task-{number}", f"p{number % 5}")

    await asyncio.gather(*map(one, range(500)))


async def nothing() -> None:
    """Halfway nothing happens."""


async def test_expiring_tokens_fail_no_request(iam: Work) -> None:
    """500 requests over 900 seconds with tokens that live for 600 cost two token calls a project."""
    await five_hundred(iam, nothing, seconds=1.8)

    assert iam.faults == []
    assert len(iam.fake_dcs.tasks) == 500
    assert iam.token_calls() == Counter({f"p{number}": 2 for number in range(5)})


async def test_tokens_ended_early_fail_no_request(iam: Work) -> None:
    """When all tokens die at once long before their time, each project gets another one with one call."""

    async def die() -> None:
        await iam.fake_dcs.apply(clock_offset=700)

    await five_hundred(iam, die)

    assert iam.faults == []
    assert len(iam.fake_dcs.tasks) == 500
    assert iam.token_calls() == Counter({f"p{number}": 2 for number in range(5)})
    assert iam.fake_dcs.stats()["calls"]["create"]["401"] >= 5


async def test_changed_password_is_tried_rarely(iam: Work) -> None:
    """Changed during work: at most three token calls in the first minute, and every refusal is retryable."""

    async def change() -> None:
        await iam.fake_dcs.apply(auth={"password": "another-password"})

    await five_hundred(iam, change)
    for _ in range(59):
        await iam.create("more", "p6")
        await iam.clock.advance(1)

    wrong = [call for call in iam.fake_dcs.calls if call.operation == "token" and call.status == 401]
    assert 1 <= len(wrong) <= 3
    assert {fault.label for fault in iam.faults} == {"credentials"}
    assert all(fault.retry_after and not fault.is_ambiguous for fault in iam.faults)
    assert len(iam.fake_dcs.tasks) + len(iam.faults) == 500 + 59
    assert PASSWORD not in f"{iam.faults} {iam.credentials!r}"


async def test_corrected_secret_file_resumes_work(iam: Work) -> None:
    """The new file is read, one token call verifies it, and work continues."""
    assert isinstance(await iam.create("before"), TaskCreated)
    await iam.fake_dcs.apply(auth={"password": "another-password"})
    assert isinstance(await iam.create("refused"), CallError)
    iam.write(worker_iam_password="still-not-right")
    assert isinstance(await iam.create("refused again"), CallError)
    assert iam.token_calls() == Counter({"p": 3})

    await iam.fake_dcs.apply(auth={"lock_after": 0})
    iam.write(worker_iam_password="another-password")

    assert isinstance(await iam.create("after"), TaskCreated)
    assert iam.token_calls() == Counter({"p": 4})
    assert iam.clock.now - iam.fake_dcs.calls[0].at < 60


async def test_iam_outage_fails_no_request_for_good(iam: Work) -> None:
    """While IAM fails, calls are not made and report it; afterwards they succeed."""
    await iam.fake_dcs.apply(operation_scripts={"token": ["error 503 APIGW.0613", "drop", "ok"]})

    faults = [await iam.create("early") for _ in range(3)]
    assert {fault.label for fault in faults if isinstance(fault, CallError)} == {"iam"}
    assert iam.token_calls() == Counter({"p": 1})
    await iam.clock.advance(15)
    assert isinstance(await iam.create("early"), CallError)
    await iam.clock.advance(15)
    assert isinstance(await iam.create("late"), TaskCreated)
    assert iam.fake_dcs.stats()["calls"].keys() == {"token", "create"}


@pytest.mark.parametrize("name", ODD)
async def test_names_with_special_characters_are_signed_correctly(keys: Work, name: str) -> None:
    """Create and look-up carry valid signatures for every name."""
    created = await keys.create(name)
    assert isinstance(created, TaskCreated)

    found = await keys.client.find(an_order(name), keys.clock())

    assert isinstance(found, TaskFound)
    assert found.instance_id == created.instance_id


async def test_any_name_is_signed_correctly(keys: Work) -> None:
    """The same for 200 names of random characters."""
    random_unit = random.Random(4)
    ranges = [(0, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)]
    for _ in range(200):
        name = "".join(chr(random_unit.randint(*random_unit.choice(ranges))) for _ in range(random_unit.randint(1, 20)))
        name = "".join(filter(str.isprintable, f"a{name}z"))
        assert not isinstance(await keys.client.find(an_order(name), 0.0), CallError), repr(name)


async def test_rotated_key_is_used(keys: Work) -> None:
    """A key replaced in its files is used for the next request; no request between the two fails for good."""
    assert isinstance(await keys.create("before"), TaskCreated)
    await keys.fake_dcs.apply(auth={"access_key": "ROTATED", "secret_key": "rotated-secret"})
    refused = await keys.create("between")
    assert isinstance(refused, CallError)
    assert refused.http_status == 401

    keys.write(worker_access_key="ROTATED", worker_secret_key="rotated-secret")

    assert isinstance(await keys.create("after"), TaskCreated)


async def test_wrong_clock_is_named_in_rejection(keys: Work) -> None:
    """A service whose clock is 20 minutes behind refuses signatures, and its reply shows why."""
    await keys.fake_dcs.apply(clock_offset=-1200)
    request = new_request("list", "GET", f"{keys.fake_dcs.url}/v2/p/migration-tasks?limit=1")
    await keys.credentials.authorise(request, "p")

    reply = await keys.http.send(request)

    assert isinstance(reply, httpx2.Response)
    assert (reply.status_code, keys.credentials.explain(skew(reply.headers["date"], keys.clock()))) == (
        401,
        "the clock of this machine is 20 min ahead of the service's; signatures are valid for 15 minutes",
    )


async def test_platform_keys_are_renewed_during_work(platform: Work) -> None:
    """500 requests over 900 seconds with temporary keys that live for 600: no failure, three fetches at most."""
    await five_hundred(platform, nothing, seconds=1.8)

    assert platform.faults == []
    assert len(platform.fake_dcs.tasks) == 500
    assert 2 <= platform.fake_dcs.stats()["issued"]["keys"] <= 3


@pytest.mark.parametrize("platform", [way for way in WAYS if way != "metadata"], indirect=True)
async def test_rotated_workload_token_is_used(platform: Work) -> None:
    """The file is read at each fetch; a token that is refused costs no request for good, and is not shown."""
    assert isinstance(await platform.create("before"), TaskCreated)
    await platform.fake_dcs.apply(auth={"workload_token": "rotated-token"})
    await platform.clock.advance(601)
    refused = await platform.create("between")
    assert isinstance(refused, CallError)
    assert (refused.label, refused.is_ambiguous) == ("credentials", False)
    assert WORKLOAD_TOKEN not in f"{refused} {platform.credentials!r}"

    platform.write(token="rotated-token")
    await platform.clock.advance(refused.retry_after or 0)

    assert isinstance(await platform.create("after"), TaskCreated)


async def test_first_configured_way_is_used(tmp_path: Path) -> None:
    """With the variables of all ways the pod's identity is used, and only that."""
    environ = {"WORKER_CREDENTIALS": "platform"}
    for variables in WAYS.values():
        environ |= variables
    async with working(tmp_path, {"mode": "platform"}, environ, PROFILE) as work:
        assert isinstance(await work.create("x"), TaskCreated)
        assert [call.path for call in work.fake_dcs.calls if call.operation == "identity"] == ["/v1/credentials"]


async def test_output_has_no_secret(
    iam: Work, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Through refusals and outages, no password or token appears in any log, output or error."""
    await iam.create("one")
    await iam.fake_dcs.apply(auth={"password": "another-password"})
    await iam.create("two")
    iam.write(worker_iam_password="wrong-secret")
    await iam.create("three")
    out = capfd.readouterr()
    output = f"{caplog.text} {out.out} {out.err} {iam.faults} {iam.credentials!r} {vars(iam.credentials)}"

    tokens = list(iam.fake_dcs.state.authenticator.tokens)
    assert tokens
    for secret in (PASSWORD, "another-password", "wrong-secret", *tokens):
        assert secret not in output

"""A refused password is never hammered: the account would be locked."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.fakes.clock import FakeClock
from tests.unit.dcs.fakes import FakeIam, a_client, timing_of, until
from worker.dcs.auth.iam import IamTokens
from worker.dcs.auth.iam_login import Account, PasswordLockout
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence

ACCOUNT = Account("https://iam", "user", "domain")
REASON = "IAM refuses the password of user (HTTP 401: not ***)"
NOT_NOWHERE = "IAM gives user no token for project nowhere: not ***"


class Worker:
    """Tokens with a password that can be replaced."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.iam = FakeIam(clock)
        self.password = "right"
        self.tokens = IamTokens(ACCOUNT, lambda: self.password, a_client(self.iam), timing_of(clock))

    async def ask(self, *projects: str) -> list[CallError | str]:
        """What requests of these projects get, all at once."""
        return await asyncio.gather(*map(self._ask, projects))

    async def _ask(self, project: str) -> CallError | str:
        request = httpx2.Request("GET", "https://dcs/")
        fault = await self.tokens.authorise(request, project)
        if fault is not None:
            return fault
        token: str = request.headers["X-Auth-Token"]
        return token

    async def refuse(self, *projects: str) -> list[CallError | str]:
        """DCS refuses the tokens of these projects: what their requests get instead."""
        for project in projects:
            request = httpx2.Request("GET", "https://dcs/")
            await self.tokens.authorise(request, project)
            assert await self.tokens.renew(project, request)
        return await self.ask(*projects)


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    """A worker whose password is right."""
    made = Worker(FakeClock())
    yield made
    await made.tokens.aclose()


def labels(endings: list[CallError | str]) -> set[str]:
    """The different labels of faults."""
    return {ending.label if isinstance(ending, CallError) else ending for ending in endings}


def said(endings: list[CallError | str]) -> set[str]:
    """The different messages of faults, and tokens."""
    return {ending.message if isinstance(ending, CallError) else ending for ending in endings}


async def test_a_wrong_password_is_tried_once(worker: Worker) -> None:
    """At the start, a hundred requests of ten projects with a wrong password cost one call in the first minute."""
    worker.password = "wrong"
    projects = [f"p{number % 10}" for number in range(100)]

    endings = await worker.ask(*projects)
    for _ in range(59):
        endings += await worker.ask(*projects)
        await worker.clock.advance(1)

    assert labels(endings) == {"credentials"}
    assert worker.iam.asked == [("p0", "wrong")]


async def test_the_fault_says_what_to_wait_for(worker: Worker) -> None:
    """Nothing was sent, time may help, so much of it; the password is in none of the words."""
    worker.password = "wrong"
    await worker.ask("p")
    await worker.clock.advance(10)

    (fault,) = await worker.ask("p")

    assert fault == CallError(Evidence.NEVER_SENT, ErrorKind.RETRY, CallStatus.NO_CREDENTIALS, REASON, retry_after=50.0)


async def test_pauses_grow(worker: Worker) -> None:
    """With nobody but one project asking, the wrong password is tried after 1, 4 and then every 15 minutes."""
    worker.password = "wrong"
    tried: list[float] = []
    for second in range(3600):
        await worker.ask("p")
        tried += [second] * (len(worker.iam.asked) - len(tried))
        worker.clock.now += 1

    assert tried == [0, 60, 300, 1200, 2100, 3000]


async def test_a_password_that_becomes_wrong(worker: Worker) -> None:
    """Changed under way, with fifty projects at work: one call finds out, and no request is blamed."""
    projects = [f"p{number}" for number in range(50)]
    await worker.ask(*projects)
    worker.iam.password = "other"
    worker.iam.asked.clear()

    endings = await worker.refuse(*projects)
    await worker.clock.advance(59)

    assert labels(endings) == {"credentials"}
    assert len(worker.iam.asked) == 1


async def test_a_password_that_was_right_again_starts_afresh(worker: Worker) -> None:
    """A later refusal is a first one, followed by the shortest pause."""
    await worker.ask("p", "q")
    for _ in range(2):
        worker.iam.password = "other"
        worker.iam.asked.clear()
        assert labels(await worker.refuse("p")) == {"credentials"}
        await worker.clock.advance(59)
        worker.iam.password = "right"
        assert labels(await worker.ask("p")) == {"credentials"}
        assert len(worker.iam.asked) == 1
        await worker.clock.advance(1)
        assert labels(await worker.ask("p")) == {"token-p-2"}


async def test_a_password_replaced_during_the_call_needs_no_wait(worker: Worker) -> None:
    """When IAM refuses what is no longer the password, the fault asks for no pause."""
    worker.password, worker.iam.held = "wrong", True
    asking = asyncio.create_task(worker.ask("p"))
    await until(lambda: bool(worker.iam.asked))
    worker.password, worker.iam.held = "right", False

    (fault,) = await asking

    assert isinstance(fault, CallError)
    assert (fault.label, fault.retry_after) == ("credentials", 0.0)
    assert await worker.ask("p") == ["token-p-2"]


async def test_another_password_is_tried_at_once(worker: Worker) -> None:
    """The right one, placed during the pause, needs no wait."""
    await worker.ask("p", "q")
    worker.iam.password = "new"
    await worker.refuse("p", "q")
    worker.iam.asked.clear()

    worker.password = "new"

    assert await worker.ask("p", "q") == ["token-p-1", "token-q-2"]
    assert worker.iam.asked == [("p", "new"), ("q", "new")]


async def test_a_password_that_was_rejected_before_is_not_tried_again(worker: Worker) -> None:
    """Passwords that were refused are remembered, so that flapping between two of them costs two calls."""
    for password in ("wrong", "worse", "wrong", "worse"):
        worker.password = password
        await worker.ask("p")

    assert worker.iam.asked == [("p", "wrong"), ("p", "worse")]


async def test_one_wrong_project_stops_no_other(worker: Worker) -> None:
    """Where another project had a token, only the requests of a project that IAM denies to the user end."""
    worker.iam.strangers.add("nowhere")
    await worker.ask("p")

    (fault,) = await worker.ask("nowhere")

    assert isinstance(fault, CallError)
    assert (fault.evidence, fault.kind, fault.http_status) == (Evidence.NEVER_SENT, ErrorKind.UNAUTHENTICATED, 401)
    assert fault.message == NOT_NOWHERE
    assert await worker.ask("p", "q") == ["token-p-1", "token-q-3"]
    await worker.ask("nowhere", "nowhere")
    assert len(worker.iam.asked) == 3


async def test_a_wrong_project_that_comes_first_pauses_all(worker: Worker) -> None:
    """With nothing known yet the password is blamed; as soon as another project has a token, the project is."""
    worker.iam.strangers.add("nowhere")
    assert said(await worker.ask("nowhere", "p", "q")) == {REASON}
    assert len(worker.iam.asked) == 1

    await worker.clock.advance(60)

    assert said(await worker.ask("p", "nowhere")) == {"token-p-2", NOT_NOWHERE}
    assert len(worker.iam.asked) == 3


async def test_a_denied_project_is_asked_for_again_later(worker: Worker) -> None:
    """Rights may be granted: after five minutes IAM is asked once more."""
    worker.iam.strangers.add("late")
    await worker.ask("p")
    await worker.ask("late")
    worker.iam.strangers.clear()

    await worker.clock.advance(299)
    assert labels(await worker.ask("late")) == {"credentials"}
    await worker.clock.advance(1)
    assert await worker.ask("late") == ["token-late-3"]


async def test_two_refused_projects_blame_the_password(worker: Worker) -> None:
    """One that never had a token is blamed alone, however often; with a second one in a row everyone pauses."""
    await worker.ask("p")
    worker.iam.password = "other"
    for _ in range(2):
        assert said(await worker.ask("q")) == {NOT_NOWHERE.replace("nowhere", "q")}
        await worker.clock.advance(300)

    (fault,) = await worker.ask("r")

    assert isinstance(fault, CallError)
    assert (fault.kind, fault.message) == (ErrorKind.RETRY, REASON)
    assert said(await worker.ask("s")) == {REASON}
    assert labels(await worker.ask("q")) == {"credentials"}
    assert len(worker.iam.asked) == 4


async def test_a_token_between_two_refused_projects_clears_the_password(worker: Worker) -> None:
    """Then each of them is at fault by itself."""
    worker.iam.strangers |= {"nowhere", "elsewhere"}
    answers = [said(await worker.ask(project)) for project in ("p", "nowhere", "q", "elsewhere")]

    assert answers[1::2] == [{NOT_NOWHERE}, {NOT_NOWHERE.replace("nowhere", "elsewhere")}]
    assert len(worker.iam.asked) == 4


async def test_no_secret_is_shown(worker: Worker) -> None:
    """Neither password nor token is in any text of these objects, nor in a fault that quotes IAM."""
    worker.password = "wrong"
    faults = await worker.ask("p")
    worker.password = "right"
    await worker.ask("p")
    shown = f"{vars(worker.tokens)} {vars(worker.tokens._lockout)} {worker.tokens!r} {faults}"

    assert "token-p" not in shown
    assert "right" not in shown
    assert "wrong" not in shown


@pytest.mark.parametrize(("random_unit", "pauses"), [(0.0, [60, 240, 900, 900]), (1.0, [75, 300, 1125, 1125])])
def test_the_pause_grows_and_is_never_shorter_than_said(random_unit: float, pauses: list[float]) -> None:
    """Jitter only lengthens: a shorter pause would bring the account nearer to its lock."""
    lockout = PasswordLockout(lambda: random_unit)
    seen = []
    for _ in pauses:
        lockout.refused("x", 0.0)
        seen.append(lockout.wait("x", 0.0))

    assert seen == pauses
    assert lockout.wait("y", 0.0) == 0.0
    lockout.accepted()
    lockout.refused("z", 0.0)
    assert lockout.wait("x", 0.0) == 0.0

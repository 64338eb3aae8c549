"""Demo: planned requests, tracked outcomes, output, and errors without a broker."""

import asyncio
import io
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from schemas.event import FAILED_KEY, SUCCEEDED_KEY, MigrationFailed, MigrationSucceeded, Reason
from schemas.request import InvalidRequestError, parse
from tests.fakes.clock import FakeClock
from tests.pipeline.virtual_time.event_loop import VirtualTime
from worker.cli.app import app
from worker.cli.demo import print_result
from worker.cli.progress import ProgressDisplay
from worker.policy.error_text import read_text
from worker.policy.throttle.rate_limiter import RateLimiter
from worker.tools.demo.requests import (
    REQUEST_KINDS,
    SUCCEEDED,
    DemoResult,
    OutcomeTracker,
    PlannedRequest,
    collect,
    fault_scripts,
    plan_requests,
)
from worker.tools.fake_dcs import FakeDcsSettings, Quota
from worker.tools.servers import free_port, rabbitmq

TIMES = {"received_at": "2026-01-01T00:00:00.000Z", "completed_at": "2026-01-01T00:00:01.000Z"}
PLAIN, LATE, REFUSED, MISSPELT = (
    next(request for request in plan_requests(200) if request.kind.fault == met)
    for met in ("none", "reset after creating", "a VPC that does not exist", "a misspelt field")
)
TWICE = next(request for request in plan_requests(200) if request.kind.copies == 2)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads a `.env` of the checkout."""
    monkeypatch.chdir(tmp_path)


def _success(request: PlannedRequest, instance_id: str = "", resolution: str = "created") -> tuple[str, bytes]:
    body = {
        "request_id": request.request_id,
        "project_id": request.kind.project,
        "region": "r",
        "name": request.name,
        "instance_id": instance_id or f"id of {request.name}",
        "resolution": resolution,
        "attempts": 1,
        **TIMES,
    }
    return SUCCEEDED_KEY, MigrationSucceeded.model_validate(body).model_dump_json().encode()


def _succeed(
    tally: OutcomeTracker, request: PlannedRequest, instance_id: str = "", resolution: str = "created"
) -> None:
    tally.event(*_success(request, instance_id, resolution))


def _fail(tally: OutcomeTracker, request: PlannedRequest, reason: Reason) -> None:
    failed = MigrationFailed(request_id=request.request_id, reason=reason, message="no", **TIMES)
    tally.event(FAILED_KEY, failed.model_dump_json().encode())


def _sent(*planned: PlannedRequest) -> OutcomeTracker:
    tally = OutcomeTracker(planned, FakeClock(0.0))
    for request in planned:
        tally.sent(request)
    return tally


def test_200_requests_have_every_kind_in_its_share() -> None:
    """200 requests are of every kind as often as it says, each with an id and a name of its own."""
    planned = plan_requests(200)

    assert Counter(request.kind.fault for request in planned) == {kind.fault: kind.share for kind in REQUEST_KINDS}
    assert len({request.request_id for request in planned}) == len({request.name for request in planned}) == 200
    assert sum(request.kind.expected == SUCCEEDED for request in planned) == 192


def test_few_requests_are_mixed() -> None:
    """The kinds are spread evenly: of 40 requests most are ordinary and some of every frequent kind."""
    met = Counter(request.kind.fault for request in plan_requests(40))

    assert 24 <= met["none"] <= 30
    assert all(met[kind.fault] for kind in REQUEST_KINDS if kind.share >= 8)
    assert len(plan_requests(1)) == 1
    assert len(plan_requests(450)) == 450


def test_only_misspelt_requests_are_invalid() -> None:
    """What is sent is valid, but for those that are meant not to be."""
    for request in plan_requests(200):
        if request.kind.misspelt:
            with pytest.raises(InvalidRequestError, match=r"did you mean vpc_id\?"):
                parse(request.body, max_bytes=65_536)
        else:
            assert parse(request.body, max_bytes=65_536).request_id == request.request_id


def test_fault_scripts_are_valid_for_fake_dcs() -> None:
    """The scripts of all kinds are scripts of the fake DCS."""
    settings = FakeDcsSettings(scripts=fault_scripts(plan_requests(200)))

    assert len(settings.scripts) == sum(kind.share for kind in REQUEST_KINDS if kind.script)


def test_rate_learnt_from_throttled_call_slows_no_other_request() -> None:
    """Even where a single call was made before, the rate that is learnt lets all requests through in a few seconds."""
    (kind,) = (kind for kind in REQUEST_KINDS if kind.fault == "throttled first")
    quota = Quota.model_validate(kind.script[0].removeprefix("throttle "))
    limiter = RateLimiter()
    limiter.take(1, 1.0)
    limiter.throttled(1.0, 1.1, read_text(429, quota.error_text).throttle, None)
    assert limiter.rate is not None
    assert limiter.rate > 40


def test_expected_outcomes_leave_no_problem() -> None:
    """Expected answers and one task for each request that should have one leave no problem."""
    tally = _sent(PLAIN, LATE, REFUSED, MISSPELT)
    was_complete = tally.is_complete
    _succeed(tally, PLAIN)
    _succeed(tally, LATE, resolution="adopted")
    _fail(tally, REFUSED, Reason.REJECTED)
    _fail(tally, MISSPELT, Reason.INVALID_REQUEST)

    result = tally.result((request.name, f"id of {request.name}") for request in (PLAIN, LATE))

    assert (was_complete, tally.is_complete) == (False, True)
    assert (result.is_ok, result.tasks_expected, result.tasks_found) == (True, 2, 2)
    assert {row.outcome: dict(row.met) for row in result.outcomes} == {
        "created": {"none": 1},
        "adopted": {"reset after creating": 1},
        "rejected": {"a VPC that does not exist": 1},
        "invalid_request": {"a misspelt field": 1},
    }
    assert result.as_json()["ok"] is True


def test_request_sent_twice_needs_two_equal_events() -> None:
    """It is complete with the second answer, counted once, and two different answers are a problem."""
    tally = _sent(TWICE)
    _succeed(tally, TWICE)
    was_complete = tally.is_complete
    _succeed(tally, TWICE)
    assert (was_complete, tally.is_complete) == (False, True)
    assert tally.outcomes == {"created": 1}
    assert tally.result([(TWICE.name, f"id of {TWICE.name}")]).is_ok

    tally = _sent(TWICE)
    _succeed(tally, TWICE)
    _succeed(tally, TWICE, instance_id="another")
    assert not tally.result([(TWICE.name, f"id of {TWICE.name}")]).is_ok


@pytest.mark.parametrize(
    ("tasks", "complaint"),
    [
        ([], "0 tasks"),
        (["id of {}", "second"], "2 tasks"),
        (["another"], "id of another task"),
    ],
)
def test_other_number_of_tasks_is_a_problem(tasks: list[str], complaint: str) -> None:
    """No task, two tasks, or one that the event does not name: each is reported with its request."""
    tally = _sent(PLAIN)
    _succeed(tally, PLAIN)

    result = tally.result((PLAIN.name, task.format(PLAIN.name)) for task in tasks)

    assert not result.is_ok
    assert complaint in result.problems[0]
    assert result.problems[0].startswith(PLAIN.request_id)


def test_unexpected_outcomes_are_problems() -> None:
    """A refused request that succeeds, a plain one that fails, one without an event, one that was never sent."""
    tally = _sent(PLAIN, REFUSED, LATE)
    _fail(tally, PLAIN, Reason.UNRESOLVED)
    _succeed(tally, REFUSED)
    _fail(tally, TWICE, Reason.POISON)

    result = tally.result([("unknown", "id")])

    said = "\n".join(result.problems)
    assert f"{PLAIN.request_id} (none): unresolved instead of succeeded" in said
    assert f"{REFUSED.request_id} (a VPC that does not exist): created instead of rejected" in said
    assert f"{LATE.request_id} (reset after creating): not answered" in said
    assert f"never sent: {TWICE.request_id}" in said
    assert "without a request: unknown" in said
    assert next(row for row in result.outcomes if row.outcome == "no answer").p50 is None


def test_latency_is_from_sending_to_event() -> None:
    """Of 100 answers after 1 to 100 s the percentiles are 50, 95 and 100 s."""
    ordinary = [
        request
        for request in plan_requests(200)
        if not request.kind.script and request.kind.copies == 1 and not request.kind.misspelt
    ][:100]
    clock = FakeClock(0.0)
    tally = OutcomeTracker(ordinary, clock)
    for request in ordinary:
        tally.sent(request)
    for second, request in enumerate(ordinary, 1):
        clock.now = float(second)
        _succeed(tally, request)

    (row,) = tally.result([]).outcomes
    assert (row.p50, row.p95, row.max) == (50.0, 95.0, 100.0)


class EventStream:
    """Success for each of the planned, one every so many seconds."""

    def __init__(self, planned: Sequence[PlannedRequest], apart: float) -> None:
        self._planned, self._apart = planned, apart

    async def __aiter__(self) -> AsyncIterator[tuple[str, bytes]]:
        """The events."""
        for request in self._planned:
            await asyncio.sleep(self._apart)
            yield _success(request)
        await asyncio.Event().wait()


@pytest.mark.parametrize(("apart", "is_complete", "answered"), [(59.0, True, 3), (61.0, False, 0)])
def test_collecting_ends_after_silence(apart: float, is_complete: bool, answered: int) -> None:
    """Events that come a minute apart are all counted; collecting ends after a longer silence."""
    planned = [PLAIN, LATE, TWICE]
    tally = _sent(PLAIN, LATE, replace(TWICE, kind=PLAIN.kind))
    shown: list[int] = []

    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        found = runner.run(collect(EventStream(planned, apart), tally, shown.append, 60.0))

    assert (found, tally.answered, shown) == (is_complete, answered, list(range(1, answered + 1)))


def _result(*, is_ok: bool = True) -> DemoResult:
    tally = _sent(PLAIN)
    _succeed(tally, PLAIN)
    return tally.result([(PLAIN.name, f"id of {PLAIN.name}")] if is_ok else [])


def test_output_without_terminal_is_plain_lines() -> None:
    """Progress is a line, the table is text, and no control code is in either."""
    stream = io.StringIO()
    tally = _sent(PLAIN)
    with ProgressDisplay("answered", 1, stream, tally.counts) as display:
        display.show()
        _succeed(tally, PLAIN)
        display.update(tally.answered)
    print_result(_result(), stream)
    print_result(_result(is_ok=False), stream)

    text = stream.getvalue()
    assert text.splitlines()[:2] == ["0 of 1 answered: none yet", "1 of 1 answered: created 1"]
    assert "1 tasks exist for the 1 requests that should have one: exactly one each." in text
    assert f"{PLAIN.request_id} (none): 0 tasks called {PLAIN.name}" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("no_color", [False, True])
def test_terminal_shows_bar_in_colour_unless_no_color(monkeypatch: pytest.MonkeyPatch, no_color: bool) -> None:
    """A terminal gets one live bar; NO_COLOR removes only the colours."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    controller, terminal = os.openpty()
    tally = _sent(PLAIN)
    with open(terminal, "w") as stream:
        with ProgressDisplay("answered", 1, stream, tally.counts) as display:
            display.show()
            _succeed(tally, PLAIN)
            display.update(tally.answered)
        print_result(_result(), stream)
        stream.flush()
        written = b""
        while b"exactly one each" not in written:
            written += os.read(controller, 65_536)
        shown = written.decode()
    os.close(controller)

    assert "1 of 1 answered: created 1" in shown
    assert ("\x1b[32m" in shown) is not no_color


def test_missing_broker_is_reported_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server, no container engine: the demo ends with 69 and says what to do."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(rabbitmq, "PACKAGED_SCRIPTS", Path("nowhere"))
    monkeypatch.setattr(rabbitmq, "find_container_engine", lambda: None)
    result = CliRunner().invoke(app, ["demo"], env={"WORKER_AMQP_URL": "not even a URL"})

    assert result.exit_code == 69
    assert result.stderr.startswith("There is no broker to use: name one with --broker")
    assert result.stderr.count("\n") == 1


def test_unreachable_given_broker_is_reported_in_one_sentence() -> None:
    """The demo ends with 69, and with `--json` writes nothing where JSON is expected."""
    url = f"amqp://guest:hunter2@127.0.0.1:{free_port()}/"
    result = CliRunner().invoke(app, ["demo", "--json", "--broker", url])

    assert (result.exit_code, result.stdout) == (69, "")
    assert "cannot be reached: Connection refused." in result.stderr
    assert "hunter2" not in result.output


def test_result_is_json() -> None:
    """The verdict has plain values only."""
    assert json.loads(json.dumps(_result().as_json()))["tasks_found"] == 1

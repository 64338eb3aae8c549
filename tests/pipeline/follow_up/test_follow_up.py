"""Follow-up: a watch looks until there is a last word, and its event is published before it is acknowledged."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from schemas import names
from schemas.dcs import JobReply, TaskDetail
from schemas.identity import event_id
from tests.pipeline.fakes import FORBIDDEN, NOW, TIMEOUT, request
from tests.pipeline.follow_up.watch_bench import CREATING, REGION, WatchBench, success
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence
from worker.policy.follow_up import ListedTask
from worker.policy.migration_request import RequestParser
from worker.policy.throttle.circuit_breaker import BreakerState

AWAY = CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.ANSWERED, http_status=503)


@pytest.fixture
def bench() -> Iterator[WatchBench]:
    """A replica that follows up."""
    bench = WatchBench()
    yield bench
    bench.close()


def follow(bench: WatchBench, *bodies: dict[str, object]) -> list[dict[str, object]]:
    """Follow these successes up, until each watch has ended; the events."""
    bench.run(bench.follow(*bodies))
    return bench.publisher.events


def becomes(bench: WatchBench, at: float, *, task: str = "i-1", listed: ListedTask | None) -> None:
    """Change a row of project p1 at a time."""

    def change() -> None:
        rows = bench.tasks.listed.setdefault("p1", {})
        if listed is None:
            rows.pop(task, None)
        else:
            rows[task] = listed

    bench.loop.call_at(at, change)


def test_task_that_becomes_ready_gets_one_event_and_looks_are_rare(bench: WatchBench) -> None:
    """Looks come after 10, 10, 20, 30, then every 60 s; the event has what the list says, and the watch's ids."""
    becomes(bench, 0.0, listed=CREATING)
    becomes(bench, 140.0, listed=ListedTask("RUNNING", None, "192.168.0.17"))
    (event,) = follow(bench, success())
    assert [round(at) for at, _ in bench.tasks.calls] == [10, 20, 40, 70, 130, 190]
    assert set(bench.tasks.operations) == {"list"}
    expected = {"task_status": "RUNNING", "ecs_tenant_private_ip": "192.168.0.17", "checks": 6, "instance_id": "i-1"}
    assert {field: event[field] for field in expected} == expected
    assert "reason" not in event
    assert all(delivery.done == ["ack"] for delivery in bench.deliveries)
    published = bench.publisher.published[-1]
    assert (published.correlation_id, published.reply_to) == ("c-1", None)
    assert published.event_id == event_id("p1", "r-i-1", "dcs.migration.provisioned.v1", "i-1", None)


def test_watch_waits_with_its_state_and_trace(bench: WatchBench) -> None:
    """A copy has the looks so far, the ids of task and job, the trace; it is published before the acknowledgement."""
    bench.tasks.listed = {"p1": {"i-1": CREATING}}

    async def scenario() -> None:
        trace = {names.TRACEPARENT: f"00-{'1' * 32}-{'2' * 16}-01"}
        bench.publisher.refusals = 2
        delivery = bench.deliver(success(), headers={names.ROUND: 4, "x-other": 1, **trace})
        await bench.settled()
        (watch,) = bench.watches
        assert watch.headers == {
            "x-stage": "follow-up", "x-task-id": "i-1", "x-job-id": "j-1", "x-round": 5, **trace,
        }  # fmt: skip
        assert watch.body == success()
        assert delivery.done == ["ack"]

    bench.run(scenario())


def test_address_that_the_list_leaves_out_is_asked_for_once(bench: WatchBench) -> None:
    """The detail is asked only for the last word; without the right to read it, the address stays unknown."""
    bench.tasks.listed = {"p1": {"i-1": ListedTask("RUNNING"), "i-2": ListedTask("FULLMIGRATING")}}
    bench.tasks.details = {"i-1": TaskDetail(task_id="i-1", ecs_tenant_private_ip="10.0.0.9"), "i-2": FORBIDDEN}
    events = follow(bench, success("i-1"), success("i-2"))
    assert {event["instance_id"]: event["ecs_tenant_private_ip"] for event in events} == {
        "i-1": "10.0.0.9",
        "i-2": None,
    }
    assert sorted(bench.tasks.operations) == ["list", "show", "show"]


def test_failed_task_has_the_words_of_its_job(bench: WatchBench) -> None:
    """ERROR with a job that failed: the job's reason; without a job: the list's message."""
    bench.tasks.listed = {"p1": {"i-1": ListedTask("ERROR", "row"), "i-2": ListedTask("ERROR", "row")}}
    bench.tasks.jobs = {"j-1": JobReply(status="FAIL", fail_reason="no free address")}
    events = follow(bench, success("i-1"), success("i-2", job=None))
    assert {event["instance_id"]: (event["reason"], event["fail_reason"]) for event in events} == {
        "i-1": ("task_failed", "no free address"),
        "i-2": ("task_failed", "row"),
    }
    assert {word.verdict for _, word in bench.observer.ended_watches} == {"failed"}


def test_task_whose_job_succeeded_is_provisioned_whatever_it_became(bench: WatchBench) -> None:
    """A job that ended well is the last word on the creation."""
    bench.tasks.listed = {"p1": {"i-1": ListedTask("ERROR")}}
    bench.tasks.jobs = {"j-1": JobReply(status="SUCCESS")}
    (event,) = follow(bench, success())
    assert "reason" not in event


@pytest.mark.parametrize("word", ["RELEASED", "DELETED"])
def test_task_that_is_gone(bench: WatchBench, word: str) -> None:
    """The list says it: no further call."""
    bench.tasks.listed = {"p1": {"i-1": ListedTask(word)}}
    (event,) = follow(bench, success())
    assert (event["reason"], event["task_status"]) == ("task_gone", word)
    assert bench.tasks.operations == ["list"]


def test_task_that_is_not_listed_is_gone_after_the_listing_delay_if_the_detail_does_not_know_it(
    bench: WatchBench,
) -> None:
    """Before, the list may lag."""
    (event,) = follow(bench, success())
    assert (event["reason"], event["checks"]) == ("task_gone", 4)
    assert bench.tasks.operations == ["list", "list", "list", "list", "show"]


def test_task_that_only_the_detail_knows_is_judged_by_its_word(bench: WatchBench) -> None:
    """The list lags for longer: the detail decides."""
    bench.tasks.details = {"i-1": TaskDetail(task_id="i-1", status="SUCCESS")}
    (event,) = follow(bench, success())
    assert (event["task_status"], "reason" in event) == ("SUCCESS", False)


def test_timeout_is_said_after_a_look_of_its_own(bench: WatchBench) -> None:
    """After the deadline detail and job are asked, whatever the shared list says."""
    bench.tasks.listed = {"p1": {"i-1": CREATING}}
    bench.tasks.details = {"i-1": TaskDetail(task_id="i-1", status="CREATING")}
    bench.tasks.jobs = {"j-1": JobReply(status="RUNNING")}
    (event,) = follow(bench, success())
    assert (event["reason"], event["task_status"]) == ("timeout", "CREATING")
    assert bench.tasks.operations[-3:] == ["list", "show", "job"]
    assert all(at >= 1800 for at, operation in bench.tasks.calls if operation != "list")


@pytest.mark.parametrize(("status", "verdict"), [("SUCCESS", None), ("FAIL", "task_failed")])
def test_job_has_the_last_word_at_the_deadline(bench: WatchBench, status: str, verdict: str | None) -> None:
    """The list still says CREATING."""
    bench.tasks.listed = {"p1": {"i-1": CREATING}}
    bench.tasks.details = {"i-1": TaskDetail(task_id="i-1", status="CREATING")}
    bench.tasks.jobs = {"j-1": JobReply(status=status)}
    (event,) = follow(bench, success())
    assert event.get("reason") == verdict


def test_credentials_that_may_not_read_end_in_a_timeout_and_hold_nothing(bench: WatchBench) -> None:
    """Refused looks never hold the creates of the project."""
    bench.tasks.list_error, bench.tasks.details, bench.tasks.jobs = FORBIDDEN, {"i-1": FORBIDDEN}, {"j-1": FORBIDDEN}
    (event,) = follow(bench, success())
    assert (event["reason"], event["task_status"]) == ("timeout", None)
    assert not bench.throttle.regions[REGION].projects


def test_outage_ends_no_watch(bench: WatchBench) -> None:
    """Past the deadline, calls without an answer say nothing; the first answer does."""
    bench.tasks.list_error, bench.tasks.details, bench.tasks.jobs = AWAY, {"i-1": AWAY}, {"j-1": TIMEOUT}
    bench.loop.call_at(4000.0, lambda: setattr(bench.tasks, "list_error", None))
    becomes(bench, 3900.0, listed=ListedTask("RUNNING", None, "10.0.0.1"))
    (event,) = follow(bench, success())
    assert "reason" not in event
    assert event["checks"] == 1
    assert bench.loop.now >= 4000.0


def test_answer_of_a_proxy_ends_no_watch_and_is_logged(bench: WatchBench) -> None:
    """A 401 without a code of DCS is not its answer: each look says so, and the first answer of DCS ends the watch."""
    bench.tasks.list_error = replace(AWAY, http_status=401)
    bench.loop.call_at(80.0, lambda: setattr(bench.tasks, "list_error", None))
    becomes(bench, 50.0, listed=ListedTask("RUNNING", None, "10.0.0.1"))
    (event,) = follow(bench, success())
    assert "reason" not in event
    assert len(bench.observer.notes) >= 3
    assert set(bench.observer.notes) == {"follow_up.unanswered"}


def test_state_that_is_known_is_enough_after_the_deadline(bench: WatchBench) -> None:
    """An error state is a last word, although the job that would say why is never answered."""
    bench.tasks.listed, bench.tasks.jobs = {"p1": {"i-1": ListedTask("ERROR", "row")}}, {"j-1": AWAY}
    (event,) = follow(bench, success())
    assert (event["reason"], event["fail_reason"]) == ("task_failed", "row")
    assert bench.loop.now >= 1800.0


def test_drain_lets_watches_wait_in_the_broker(bench: WatchBench) -> None:
    """A look that has not begun does not begin; the watch goes back as it came."""
    bench.tasks.listed = {"p1": {"i-1": CREATING}}

    async def scenario() -> None:
        bench.throttle.close()
        delivery = bench.deliver(success(), checks=3)
        await bench.settled()
        assert [watch.retry_level for watch in bench.watches] == [3]
        assert delivery.done == ["ack"]

    bench.run(scenario())
    assert bench.tasks.calls == []


def test_look_lets_requests_go_first(bench: WatchBench) -> None:
    """While a request waits for a permit, or holds the only one, a watch does not look."""
    parser = RequestParser(65536, (REGION,), REGION)
    bench.throttle.regions[REGION].limit.value = 1

    async def scenario() -> None:
        async with bench.throttle.permit(parser.read(request()), 2):
            bench.deliver(success())
            await bench.settled()
        assert bench.tasks.calls == []
        assert [watch.retry_level for watch in bench.watches] == [0]

    bench.run(scenario())


def test_breaker_that_only_looks_opened_closes_after_the_outage(bench: WatchBench) -> None:
    """A replica that has met no request has a project to probe all the same."""
    bench.tasks.list_error = AWAY
    tasks = {f"p{number}": f"i-{number}" for number in range(5)}
    bench.tasks.listed = {project: {task: ListedTask("RUNNING", None, "10.0.0.1")} for project, task in tasks.items()}
    bench.loop.call_at(300.0, lambda: setattr(bench.tasks, "list_error", None))
    assert len(follow(bench, *(success(task, project) for project, task in tasks.items()))) == 5
    assert "breaker.opened" in bench.observer.notes
    assert bench.throttle.regions[REGION].breaker.state == BreakerState.CLOSED
    assert bench.loop.now < 600.0


def test_project_that_refuses_requests_is_looked_at(bench: WatchBench) -> None:
    """Its creates are forbidden, which says nothing about looks; no request of it comes any more."""
    bench.tasks.listed = {"p1": {"i-1": ListedTask("RUNNING", None, "10.0.0.1")}}
    parser = RequestParser(65536, (REGION,), REGION)

    async def refuse() -> None:
        for number in range(3):
            async with bench.throttle.permit(
                parser.read(request(request_id=f"r{number}", project_id="p1")), 1
            ) as permit:
                permit.begin_call()
                permit.ended(FORBIDDEN)

    bench.run(refuse())
    (event,) = follow(bench, success())
    assert "reason" not in event
    assert bench.loop.now < 600.0


def test_lost_delivery_is_left_to_the_broker(bench: WatchBench) -> None:
    """Nothing is acknowledged; another replica looks again, and its event has the same id."""
    bench.tasks.listed = {"p1": {"i-1": ListedTask("RUNNING", None, "10.0.0.1")}}

    async def scenario() -> None:
        lost = bench.deliver(success())
        lost.lost = True
        await bench.settled()
        assert lost.done == []
        assert bench.publisher.published == []
        bench.restart()
        bench.deliver(success())
        bench.deliver(success(), checks=7)
        await bench.settled()

    bench.run(scenario())
    assert len({published.event_id for published in bench.publisher.published}) == 1


@pytest.mark.parametrize("project", ["p1", "../admin"])
def test_message_that_is_no_watch_is_dropped_with_a_line(bench: WatchBench, project: str) -> None:
    """It must not come back for ever, nor change the path of a call."""

    async def scenario() -> None:
        body = success(project=project) if project != "p1" else {"request_id": "r"}
        delivery = bench.deliver(body)
        await bench.settled()
        assert delivery.done == ["ack"]

    bench.run(scenario())
    assert bench.observer.notes == ["follow_up.unreadable"]
    assert bench.tasks.calls == []


def test_watch_of_a_region_that_left_the_settings_waits(bench: WatchBench) -> None:
    """The region may come back."""

    async def scenario() -> None:
        bench.deliver(success(region="eu-west-101"), checks=2)
        await bench.settled()

    bench.run(scenario())
    assert [watch.retry_level for watch in bench.watches] == [2]
    assert bench.observer.notes == ["follow_up.unknown_region"]


def test_thousands_of_watches_cost_few_calls(bench: WatchBench) -> None:
    """10,000 in five projects, of ten pages each: at most five calls a second, also when all become ready at once."""
    tasks = [(f"i-{number}", f"p{number % 5}") for number in range(10_000)]
    bench.tasks.pages = 3
    for task, project in tasks:
        bench.tasks.listed.setdefault(project, {})[task] = CREATING
        bench.tasks.details[task] = TaskDetail(task_id=task)

    async def scenario() -> None:
        for begin in range(0, len(tasks), 200):  # 60 s of the broker: 10,000 deliveries
            for task, project in tasks[begin : begin + 200]:
                bench.deliver(success(task, project))
            await bench.settled()
            bench.loop.now += 1.0
        seconds = bench.loop.now
        assert len(bench.tasks.calls) <= 5 * seconds
        assert len(bench.watches) == 10_000
        for rows in bench.tasks.listed.values():
            rows.update({task: replace(row, status="RUNNING") for task, row in rows.items()})
        bench.loop.now += 11.0
        before, begun = len(bench.tasks.calls), bench.loop.now
        for task, project in tasks[:200]:
            bench.deliver(success(task, project))
        await bench.settled()
        assert len(bench.publisher.events) == 200
        assert len(bench.tasks.calls) - before <= 5 * (bench.loop.now - begun) + 15

    bench.run(scenario())


def test_success_time_is_the_one_of_the_event(bench: WatchBench) -> None:
    """`succeeded_at` is the `completed_at` of the success."""
    bench.tasks.listed = {"p1": {"i-1": ListedTask("RUNNING", None, "10.0.0.1")}}
    (event,) = follow(bench, success())
    assert event["succeeded_at"] == success()["completed_at"]
    assert str(event["completed_at"]) > str(event["succeeded_at"])
    assert NOW + bench.loop.now == pytest.approx(NOW + 10.0, abs=1.0)

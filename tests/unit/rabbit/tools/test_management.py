"""What `doctor` makes of the words of RabbitMQ's management API."""

from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from worker.policy.diagnostics import Check, CheckResult
from worker.rabbit.tools.broker_access import Node
from worker.rabbit.tools.management import check_management, without_management
from worker.rabbit.topology import describe
from worker.tools.servers import free_port

PLAN = describe("moves", "in", "out", (10.0, 60.0))
NODE = Node.of("amqp://someone:secret%2F1@broker/team%2Fa")
BOUND = {"source": "in", "destination": "moves", "routing_key": "create"}
READER = {"source": "out", "destination": "reader", "routing_key": "#"}


def _queue(name: str, **effective: object) -> dict[str, Any]:
    return {"name": name, "policy": "ours", "operator_policy": None, "effective_policy_definition": effective}


class Api:
    """A management API with canned replies by path; remembers what it was asked."""

    def __init__(self, replies: dict[str, Any]) -> None:
        self.replies = {
            "/api/queues/team%2Fa": [_queue("moves")],
            "/api/exchanges/team%2Fa/in/bindings/source": [BOUND],
            "/api/exchanges/team%2Fa/out/bindings/source": [READER],
        } | replies
        self.asked: list[tuple[str, str, str | None]] = []

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The reply to a path; a number is a bare status."""
        self.asked.append((request.method, request.raw_path, request.headers.get("Authorization")))
        reply = self.replies[request.raw_path.partition("?")[0]]
        return web.Response(status=reply) if isinstance(reply, int) else web.json_response(reply)


@asynccontextmanager
async def _serving(api: Api) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(api.answer))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _found(**replies: Any) -> tuple[list[Check], Api]:
    paths = {"queues": "queues/team%2Fa", "sent": "exchanges/team%2Fa/in/bindings/source"}
    paths["read"] = "exchanges/team%2Fa/out/bindings/source"
    api = Api({f"/api/{paths[name]}": reply for name, reply in replies.items()})
    checks: list[Check] = []
    async with _serving(api) as base:
        await check_management(base, NODE, PLAN, None, checks.append, _count)
    return checks, api


async def _count(queue: str) -> int | None:
    """Messages ready now: one has come to a queue since the API counted, and another queue is gone."""
    return {"moves.retry.15s": 1, "moves.retry.25s": None}.get(queue, 0)


async def test_bindings_and_policies_that_are_right_are_well() -> None:
    """Three questions, all of them GET, with the login of the broker."""
    checks, api = await _found()

    assert [check.result for check in checks] == [CheckResult.OK] * 3
    assert checks[1].found == "1 queue is bound for events: reader"
    assert {method for method, _, _ in api.asked} == {"GET"}
    assert {login for _, _, login in api.asked} == {"Basic " + b64encode(b"someone:secret/1").decode()}


async def test_an_unbound_event_exchange_is_a_warning() -> None:
    """Events that nobody gets are no error of the broker; the remedy binds a queue."""
    checks, _ = await _found(read=[])

    assert (checks[1].result, checks[1].subject) == (CheckResult.WARNING, "out")
    assert "rabbitmqadmin -V team/a declare binding source=out" in (checks[1].remedy or "")


@pytest.mark.parametrize("bindings", [[], [BOUND | {"routing_key": "other"}], [BOUND | {"destination": "other"}], 404])
async def test_requests_that_lead_nowhere_fail(bindings: Any) -> None:
    """Only the key of requests, to the requests queue, is the right binding."""
    checks, _ = await _found(sent=bindings)

    assert (checks[0].result, checks[0].remedy) == (CheckResult.FAILED, "dcs-worker topology apply")


async def test_another_queue_that_gets_requests_is_a_warning() -> None:
    """Its consumer would handle each request as well; a binding with another key gets none."""
    old = BOUND | {"destination": "old", "destination_type": "queue", "properties_key": "create"}
    copied = BOUND | {"destination": "audit", "destination_type": "exchange"}
    checks, _ = await _found(sent=[BOUND, old, copied, BOUND | {"destination": "mine", "routing_key": "mine"}])

    others = [check for check in checks if check.name == "binding" and check.result is CheckResult.WARNING]
    assert [check.found.partition(" gets ")[0] for check in others] == ["the queue old", "the exchange audit"]
    assert checks[0].result is CheckResult.OK
    assert "rabbitmqadmin -V team/a delete binding source=in destination_type=queue destination=old" in (
        others[0].remedy or ""
    )


async def test_a_policy_that_changes_a_queue_is_a_warning() -> None:
    """It is named with what it sets; one that changes nothing, or another queue, is not."""
    queues = [
        _queue("moves.retry.10s", **{"message-ttl": 5, "queue-leader-locator": "balanced"}),
        _queue("moves.parked", **{"queue-leader-locator": "balanced", "delivery-limit": 1_000_000}),
        _queue("other", expires=1),
        {"name": "moves"},
    ]
    checks, _ = await _found(queues=queues)

    (policy,) = [check for check in checks if check.name == "policies"]
    assert (policy.result, policy.subject, policy.found) == (
        CheckResult.WARNING,
        "moves.retry.10s",
        "'ours' sets message-ttl 5",
    )
    assert (policy.remedy or "").startswith("rabbitmqctl clear_policy -p team/a ours")


async def test_retry_queue_that_left_the_schedule_is_named_once_it_is_empty() -> None:
    """Neither one that still drains, by either count, nor one of the schedule, nor a queue of somebody else."""
    counts = {"moves.retry.30s": 0, "moves.retry.45s": 1, "moves.retry.10s": 0, "moves.retry.mine": 0, "retry.5s": 0}
    counts |= {"moves.retry.15s": 0, "moves.retry.25s": 0}
    checks, _ = await _found(queues=[_queue(name) | {"messages": count} for name, count in counts.items()])

    (left,) = [check for check in checks if check.name == "queue"]
    assert (left.result, left.subject) == (CheckResult.WARNING, "moves.retry.30s")
    assert left.remedy == "rabbitmqctl delete_queue -p team/a moves.retry.30s"


@pytest.mark.parametrize(
    ("queues", "said"),
    [
        (401, "refuses this user"),
        (404, "answers 404"),
        (302, "answers 302"),
        ({"not": "a list"}, "is not the management"),
    ],
)
async def test_what_is_no_answer_leaves_the_question_open(queues: Any, said: str) -> None:
    """A user without the tag, or another server: nothing is known, and the commands for it are given."""
    (check,), _ = await _found(queues=queues)

    assert check.result is CheckResult.NOT_CHECKED
    assert said in check.found
    assert "rabbitmqctl list_bindings -p team/a" in (check.remedy or "")


async def test_large_answer_is_read_whole_and_a_huge_one_is_refused() -> None:
    """Thousands of queues take more than one segment; another server's endless answer does not fill the memory."""
    many = [_queue(f"other.{number}") for number in range(5_000)]
    checks, _ = await _found(queues=[*many, _queue("moves", expires=1)])
    (huge,), _ = await _found(queues=[_queue("q" * (5 << 20))])

    assert checks[-1].found == "'ours' sets expires 1"
    assert (huge.result, "more than 4 MiB" in huge.found) == (CheckResult.NOT_CHECKED, True)


async def test_an_unreachable_management_api_leaves_the_check_open() -> None:
    """Neither the password nor a traceback is in what is said."""
    checks: list[Check] = []
    await check_management(f"http://127.0.0.1:{free_port()}", NODE, PLAN, None, checks.append, _count)

    assert [check.result for check in checks] == [CheckResult.NOT_CHECKED]
    assert "secret" not in f"{checks}"


def test_without_management_the_commands_are_given() -> None:
    """What AMQP does not tell is not passed over."""
    check = without_management(NODE)

    assert check.result is CheckResult.NOT_CHECKED
    assert "--management http://broker:15672" in (check.remedy or "")

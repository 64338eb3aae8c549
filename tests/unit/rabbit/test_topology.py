"""The topology as it is declared, and the broker's refusals as readable differences."""

import pytest

from schemas import names
from worker.rabbit.topology import Queue, describe, difference


def test_retry_queues_return_to_the_requests_queue_and_that_dead_letters_to_the_parked_queue() -> None:
    """Every queue is a quorum queue, and no dead letter is lost on its way."""
    topology = describe("moves", "in", "out", (10.0, 0.5, 10.0))
    arguments = {queue.name: queue.all_arguments for queue in topology.queues}
    assert [item.name for item in topology.items] == [
        *("in", "out", "moves.parked", "moves", "moves.retry.10s", "moves.retry.0.5s")
    ]
    assert topology.requests_queue == "moves"
    assert {found["x-queue-type"] for found in arguments.values()} == {"quorum"}
    assert [arguments[name]["x-message-ttl"] for name in topology.retry_queues] == [10_000, 500, 10_000]
    targets = {name: found.get("x-dead-letter-routing-key") for name, found in arguments.items()}
    assert targets == {
        "moves": "moves.parked",
        "moves.parked": None,
        "moves.retry.10s": "moves",
        "moves.retry.0.5s": "moves",
    }
    strategies = {found.get("x-dead-letter-strategy") for name, found in arguments.items() if targets[name]}
    assert strategies == {"at-least-once"}
    assert arguments["moves.parked"] == Queue("moves.parked").all_arguments


@pytest.mark.parametrize(
    ("reply_text", "expected"),
    [
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': "
            "received the value '60000' of type 'signedint' but current is the value '70000' of type 'signedint'",
            "x-message-ttl is 70000, but should be 60000; delete it once it is empty, or change the setting",
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'q' in vhost '/': "
            "received the value '50' of type 'signedint' but current is none",
            "x-delivery-limit is not set, but should be 50; delete it once it is empty, or change the setting",
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'e' in vhost '/': "
            "received ''topic'' but current is ''direct''",
            "type is direct, but should be topic; delete it while nothing uses it, or change the setting",
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'q' in vhost '/': "
            "received the value '' of type 'longstr' but current is none",
            "x-dead-letter-exchange is not set, but should be '' (empty); "
            "delete it once it is empty, or change the setting",
        ),
        ("another text", "another text"),
    ],
)
def test_difference_names_argument_and_both_values(reply_text: str, expected: str) -> None:
    """What is not understood is shown as it came."""
    assert difference(reply_text) == expected


@pytest.mark.parametrize(
    ("seconds", "name"),
    [
        (10, "10s"),
        (10.0, "10s"),
        (1800.0, "1800s"),
        (0.5, "0.5s"),
        (0.25, "0.25s"),
        (0.001, "0.001s"),
        (90.1004, "90.1s"),
        (2_592_000.0, "2592000s"),
    ],
)
def test_retry_queue_is_named_by_its_delay(seconds: float, name: str) -> None:
    """Plain decimal seconds in whole milliseconds, without an exponent or trailing zeros."""
    assert names.retry_queue("moves", seconds) == f"moves.retry.{name}"

"""The topology as it is declared, and the broker's refusals as readable differences."""

import pytest

from worker.rabbit.topology import Queue, describe, difference


def test_retry_queues_return_to_the_requests_queue_and_that_dead_letters_to_the_parked_queue() -> None:
    """Every queue is a quorum queue, and no dead letter is lost on its way."""
    topology = describe("moves", "in", "out", (10.0, 0.5))
    arguments = {queue.name: queue.all_arguments for queue in topology.queues}
    assert [item.name for item in topology.items] == [
        *("in", "out", "moves.parked", "moves", "moves.retry.1", "moves.retry.2")
    ]
    assert topology.requests_queue == "moves"
    assert {found["x-queue-type"] for found in arguments.values()} == {"quorum"}
    assert [arguments[f"moves.retry.{level}"]["x-message-ttl"] for level in (1, 2)] == [10_000, 500]
    targets = {name: found.get("x-dead-letter-routing-key") for name, found in arguments.items()}
    assert targets == {
        "moves": "moves.parked",
        "moves.parked": None,
        "moves.retry.1": "moves",
        "moves.retry.2": "moves",
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
            "type is direct, but should be topic; delete it once it is empty, or change the setting",
        ),
        ("another text", "another text"),
    ],
)
def test_difference_names_argument_and_both_values(reply_text: str, expected: str) -> None:
    """What is not understood is shown as it came."""
    assert difference(reply_text) == expected

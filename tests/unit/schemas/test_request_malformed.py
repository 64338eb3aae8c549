"""The corpus of malformed messages and forged headers, without a broker."""

from typing import Any

import pytest
from pamqp import decode, encode

from schemas import names
from schemas.envelope import Envelope
from schemas.request import InvalidRequestError, Request, Sender, Violation, parse
from tests.malformed_messages import FORGED, HOSTILE, MAX_BYTES, REGION, Forged, Hostile

NOW = 1_790_000_000.0


def read(body: bytes) -> Request | InvalidRequestError:
    """What a worker that knows REGION alone makes of `body`."""
    try:
        request = parse(body, max_bytes=MAX_BYTES)
    except InvalidRequestError as error:
        return error
    if request.region in (None, REGION):
        return request
    return InvalidRequestError((Violation(field="region", message="is unknown"),), Sender(), is_addressed=True)


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_malformed_message_is_refused(hostile: Hostile) -> None:
    """Every message of the corpus is refused with reasons, and parked only if it is no JSON object."""
    error = read(hostile.body)
    assert isinstance(error, InvalidRequestError)
    assert error.violations
    assert error.is_addressed is not hostile.expect_parked


def test_the_corpus_is_what_it_says() -> None:
    """Every message stands for itself: names and bodies are different, and there are enough of them."""
    assert len(HOSTILE) >= 80
    assert len({hostile.name for hostile in HOSTILE}) == len(HOSTILE)
    assert len({hostile.body for hostile in HOSTILE}) == len(HOSTILE)


def test_forged_messages_are_different_requests() -> None:
    """Every forged message is a good request of its own, with a task of its own."""
    requests = [read(forged.body) for forged in FORGED]
    assert all(isinstance(request, Request) for request in requests)
    assert len({request.request_id for request in requests if isinstance(request, Request)}) == len(FORGED)
    assert len({request.task.name for request in requests if isinstance(request, Request)}) == len(FORGED)


def test_a_sender_can_publish_it() -> None:
    """The headers of every message can be put on the wire and taken from it again."""
    for name, headers in [(message.name, message.headers) for message in HOSTILE + FORGED]:
        _, received = decode.field_table(encode.field_table(headers))
        assert set(received) == set(headers), name


@pytest.mark.parametrize("forged", FORGED, ids=lambda forged: forged.name)
def test_forged_headers_never_mislead(forged: Forged) -> None:
    """Headers as they come off the wire are read without harm; what cannot be read counts as sent just now."""
    _, headers = decode.field_table(encode.field_table(forged.headers))
    for redelivered in (False, True):
        envelope = Envelope.read(headers, redelivered=redelivered, now=NOW)
        if forged.is_unreadable or redelivered:
            assert (envelope.is_repeat, envelope.last_sent_at) == (True, NOW)
        assert envelope.is_repeat is (redelivered or not names.STATE.isdisjoint(forged.headers))
        assert envelope.first_received_at <= NOW
        assert envelope.last_sent_at is None or envelope.last_sent_at <= NOW


@pytest.mark.parametrize("forged", FORGED, ids=lambda forged: forged.name)
def test_a_copy_bears_no_forged_state(forged: Forged) -> None:
    """What the worker writes is readable, whatever it read, and nothing gets worse from copy to copy."""
    envelope = Envelope.read(forged.headers, redelivered=False, now=NOW)
    headers: dict[str, Any] = envelope.write(forged.headers)
    assert encode.field_table(headers)
    again = Envelope.read(headers, redelivered=False, now=NOW + 60)
    assert again.last_sent_at == envelope.last_sent_at
    assert again.round == envelope.round
    assert again.deliveries == envelope.deliveries + 1

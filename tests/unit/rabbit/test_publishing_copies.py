"""Copies carry what their originals did, as far as AMQP and the broker allow it."""

import pytest
from pamqp import encode
from pamqp.commands import Basic

from schemas import names
from schemas.envelope import Envelope
from tests.malformed_messages import RAW_PROPERTIES, TYPED_HEADERS
from worker.rabbit import lenient_codec
from worker.rabbit.publishing import MAX_HEADER_NAME_BYTES, copy_properties, encodable

lenient_codec.install()


def read(raw: bytes) -> Basic.Properties:
    """Properties as they come off the wire."""
    found = Basic.Properties()
    found.unmarshal(int.from_bytes(raw[:2]), raw[2:])
    return found


@pytest.mark.parametrize("case", RAW_PROPERTIES)
def test_whatever_a_sender_wrote_can_be_copied(case: str) -> None:
    """No property holds up a copy; those outside of the headers are the same bytes."""
    raw = RAW_PROPERTIES[case]
    original = read(raw)
    written = copy_properties(original, dict(original.headers or {})).marshal()
    if "header" not in case and "state" not in case and "arrays" not in case and "cluster_id" not in case:
        assert raw[2:] in written


@pytest.mark.parametrize("entry", TYPED_HEADERS)
def test_copy_has_the_senders_headers_byte_for_byte(entry: bytes) -> None:
    """Of every type that clients write, between others, beside our own and through several copies."""
    table = b"\x05firstI\x00\x00\x00\x07" + entry + b"\x07x-roundb\x05\x04lastt\x01"
    raw = b"\x20\x00" + len(table).to_bytes(4) + table
    for round_ in range(1, 4):
        original = read(raw)
        assert original.headers is not None
        headers = Envelope.read(original.headers, redelivered=False, now=0.0).write(original.headers)
        copy = copy_properties(original, headers | {names.ROUND: round_})
        raw = copy.marshal()
        assert all(part in raw for part in (b"\x05firstI\x00\x00\x00\x07", entry, b"\x04lastt\x01"))
        assert (read(raw).headers or {})[names.ROUND] == round_
        assert raw.count(b"x-round") == 1


def test_changed_header_is_written_as_changed() -> None:
    """Only what is still the sender's value has the sender's bytes."""
    original = read(b"\x20\x00\x00\x00\x00\x08\x01ab\x05\x01bb\x06")
    assert original.headers == {"a": 5, "b": 6}
    copy = copy_properties(original, {"a": "changed", "b": original.headers["b"]})
    assert read(copy.marshal()).headers == {"a": "changed", "b": 6}
    assert b"\x01bb\x06" in copy.marshal()


def test_copy_is_persistent_and_neither_expires_nor_names_a_user() -> None:
    """What would delete the copy, or have the broker refuse it, is kept as headers."""
    original = Basic.Properties(expiration="5", user_id="someone", delivery_mode=1, priority=3, app_id="app")
    copy = copy_properties(original, {"x-round": 1})
    assert (copy.expiration, copy.user_id, copy.delivery_mode) == (None, None, 2)
    assert (copy.priority, copy.app_id) == (3, "app")
    assert copy.headers == {"x-round": 1, names.EXPIRATION: "5", names.USER_ID: "someone"}


def test_headers_that_cannot_be_written_are_left_out() -> None:
    """One odd header must not hold up the whole request."""
    long = "n" * (MAX_HEADER_NAME_BYTES + 1)
    headers = {"good": 1, "huge": 1e300, "bytes": b"\xff", "text": "a", "object": object(), long: 1, long[1:]: 2}
    kept = encodable(headers)
    assert kept == {"good": 1, "text": "a", long[1:]: 2}
    assert encode.field_table(kept)


def test_copy_fits_into_one_frame() -> None:
    """The largest of the sender's headers give way, the state never does."""
    headers = {"x-round": 3, "small": "a", "large": "b" * 70_000, "larger": "c" * 80_000}
    assert encodable(headers) == {"x-round": 3, "small": "a", "large": "b" * 70_000}

"""Copies carry what their originals did, as far as AMQP and the broker allow it."""

import pytest
from pamqp import encode
from pamqp.commands import Basic

from schemas import names
from tests.malformed_messages import RAW_PROPERTIES
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

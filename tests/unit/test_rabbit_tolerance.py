"""Odd properties and headers are read, and what can be is written again as it came."""

import struct

import pytest
from pamqp import decode, encode
from pamqp.commands import Basic

from schemas.envelope import Envelope
from worker.rabbit import tolerance

tolerance.install()


def read(properties: Basic.Properties, change: tuple[bytes, bytes]) -> Basic.Properties:
    """The properties as they come off the wire with some bytes changed."""
    raw = properties.marshal()
    assert change[0] in raw
    seen = Basic.Properties()
    seen.unmarshal(int.from_bytes(raw[:2]), raw[2:].replace(*change))
    return seen


def test_a_short_string_that_is_no_utf8_keeps_its_bytes() -> None:
    """A correlation id in Latin-1 is copied byte for byte."""
    seen = read(Basic.Properties(correlation_id="mXnchen"), (b"mXnchen", b"m\xfcnchen"))
    assert seen.correlation_id == "m\udcfcnchen"
    assert b"m\xfcnchen" in seen.marshal()
    assert read(Basic.Properties(correlation_id="plain"), (b"plain", b"plane")).correlation_id == "plane"


@pytest.mark.parametrize("value", [2**64 - 1, 1_700_000_000_000_000_000, 1_700_000_000_000_000])
def test_a_time_beyond_the_calendar_is_none(value: int) -> None:
    """Epoch microseconds and nanoseconds, as property and as header."""
    raw = struct.pack(">Q", value)
    assert decode.METHODS["timestamp"](raw) == (8, None)
    assert decode.TABLE_MAPPING[b"T"](raw) == (8, None)


@pytest.mark.parametrize("entry", [b"\x01k?x", b"\x02\xff\xfeS\x00\x00\x00\x01a", b"\x09k"])
def test_a_table_that_cannot_be_read_counts_as_sent(entry: bytes) -> None:
    """Unknown types, names that are no UTF-8, lengths that lie: looked for first, with a settle time."""
    raw = struct.pack(">I", len(entry)) + entry
    consumed, headers = decode.METHODS["table"](raw + b"rest")
    assert consumed == len(raw)
    assert isinstance(headers, dict)
    envelope = Envelope.read(headers, redelivered=False, now=100.0)
    assert (envelope.is_repeat, envelope.last_sent_at) == (True, 100.0)


def test_a_header_that_holds_an_unreadable_table_leaves_the_others_alone() -> None:
    """Nested without end, or with a length that lies: only that header is affected."""
    raw = struct.pack(">I", 0)
    for _ in range(3000):
        entry = b"\x01kF" + raw
        raw = struct.pack(">I", len(entry)) + entry
    for odd in (b"\x01kF" + raw, b"\x01kF\x00\x00\x00\xff"):
        entry = b"\x07x-roundI\x00\x00\x00\x02" + odd
        table = struct.pack(">I", len(entry)) + entry
        consumed, headers = decode.METHODS["table"](table)
        assert consumed == len(table)
        assert isinstance(headers, dict)
        assert Envelope.read(headers, redelivered=False, now=1.0).round == 2


def test_headers_that_cannot_be_written_are_left_out_of_a_copy() -> None:
    """One odd header must not hold up the whole request."""
    headers = {"good": 1, "huge": 1e300, "bytes": b"\xff", "text": "a", "object": object()}
    kept = tolerance.encodable(headers)
    assert kept.keys() >= {"good", "text"}
    assert not kept.keys() & {"huge", "object"}
    assert encode.field_table(kept)


def test_a_copy_fits_into_one_frame() -> None:
    """The largest of the sender's headers give way, the state never does."""
    headers = {"x-round": 3, "small": "a", "large": "b" * 70_000, "larger": "c" * 80_000}
    assert tolerance.encodable(headers) == {"x-round": 3, "small": "a", "large": "b" * 70_000}

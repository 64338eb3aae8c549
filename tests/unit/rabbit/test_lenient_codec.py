"""Odd properties and headers are read, and what can be is written again as it came."""

import os
import re
import struct
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from pamqp import decode, encode, frame
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from schemas.envelope import Envelope
from tests.malformed_messages import RAW_PROPERTIES
from worker.rabbit import lenient_codec
from worker.rabbit.publishing import copy_properties

lenient_codec.install()


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
def test_a_time_beyond_the_calendar(value: int) -> None:
    """Epoch microseconds and nanoseconds: the number as a property, which can be written again, None as a header."""
    raw = struct.pack(">Q", value)
    assert decode.METHODS["timestamp"](raw) == (8, value)
    assert encode.METHODS["timestamp"](value) == raw
    assert decode.TABLE_MAPPING[b"T"](raw) == (8, None)


def test_a_time_in_seconds_is_a_datetime() -> None:
    """And milliseconds are a number: written as a datetime they would be seconds."""
    assert decode.METHODS["timestamp"](struct.pack(">Q", 0)) == (8, datetime.fromtimestamp(0, UTC))
    assert encode.METHODS["timestamp"](datetime.fromtimestamp(5, UTC)) == struct.pack(">Q", 5)
    assert decode.METHODS["timestamp"](struct.pack(">Q", 1_767_225_600_123)) == (8, 1_767_225_600_123)


@pytest.mark.parametrize(
    "entry", [b"\x01k?x", b"\x02\xff\xfe?x", b"\x02\xff\xfeS\x00\x00\x00\x02a", b"\x09k", b"\x09\xff"]
)
def test_a_table_that_cannot_be_read_counts_as_sent(entry: bytes) -> None:
    """Unknown types, lengths that lie: looked for first, with a settle time."""
    raw = struct.pack(">I", len(entry)) + entry
    consumed, headers = decode.METHODS["table"](raw + b"rest")
    assert consumed == len(raw)
    assert isinstance(headers, dict)
    envelope = Envelope.read(headers, redelivered=False, now=100.0)
    assert (envelope.is_repeat, envelope.last_sent_at) == (True, 100.0)


def test_a_name_that_is_no_utf8_leaves_the_others_readable() -> None:
    """It keeps its bytes, and the state of a worker's own copy beside it is read."""
    entries = b"\x02\xff\xfeS\x00\x00\x00\x01a" + b"\x07x-roundb\x05"
    _, headers = decode.METHODS["table"](struct.pack(">I", len(entries)) + entries)
    assert isinstance(headers, dict)
    assert headers == {"\udcff\udcfe": "a", "x-round": 5}
    envelope = Envelope.read(headers, redelivered=False, now=100.0)
    assert (envelope.round, envelope.last_sent_at) == (5, None)


def test_a_header_that_is_too_deep_for_the_rest_of_the_stack_is_left_out_of_a_copy() -> None:
    """It was read where more of the stack was left."""

    def deeper(levels: int, headers: dict[str, Any]) -> Basic.Properties:
        if levels:
            return deeper(levels - 1, headers)
        return copy_properties(Basic.Properties(headers=headers), headers)

    outcomes = set()
    for depth in range(300, 500):
        entry = b"V"
        for _ in range(depth):
            entry = b"A" + struct.pack(">I", len(entry)) + entry
        entries = b"\x01k" + entry
        _, headers = decode.METHODS["table"](struct.pack(">I", len(entries)) + entries)
        assert isinstance(headers, dict)
        outcomes.add(bool(deeper(50, headers).headers))
    assert outcomes == {True, False}


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


@pytest.mark.parametrize("case", RAW_PROPERTIES)
def test_hostile_properties_are_read(case: str) -> None:
    """What a broker may pass on is a content header, and no exception."""
    raw = RAW_PROPERTIES[case]
    header = b"\x00\x3c\x00\x00" + (1).to_bytes(8) + raw
    content = b"\x02\x00\x01" + len(header).to_bytes(4) + header + b"\xce"
    assert isinstance(frame.unmarshal(content)[2], ContentHeader)


@pytest.mark.parametrize(
    ("table", "entry", "name"),
    [
        (decode.METHODS, "shortstr", "decode.METHODS['shortstr']"),
        (decode.TABLE_MAPPING, b"F", "decode.TABLE_MAPPING[b'F']"),
        (encode.METHODS, "timestamp", "encode.METHODS['timestamp']"),
    ],
)
def test_pamqp_without_an_entry_is_refused(
    monkeypatch: pytest.MonkeyPatch, table: dict[Any, Any], entry: object, name: str
) -> None:
    """The error names the entry and what to do."""
    monkeypatch.delitem(table, entry)
    with pytest.raises(lenient_codec.IncompatibleCodecError, match=re.escape(f"has no {name}: ")):
        lenient_codec.install()


def test_pamqp_that_ignores_its_tables_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries alone prove nothing."""
    monkeypatch.setattr(decode, "by_type", lambda value, kind, *_: {"shortstr": decode.short_str}[kind](value))
    with pytest.raises(lenient_codec.IncompatibleCodecError, match="does not use its tables"):
        lenient_codec.install()


def test_worker_does_not_start_with_a_pamqp_that_lacks_an_entry() -> None:
    """One line that says what is wrong and what to do, exit status 78."""
    program = (
        "import sys; from pamqp import decode; del decode.METHODS['shortstr'];"
        "sys.argv = ['dcs-worker', 'run']; from worker.__main__ import main; main()"
    )
    environment = {"WORKER_AUTH_TOKEN": "t", "WORKER_HTTP_PORT": "0", "PATH": os.defpath}
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert found.returncode == 78
    assert "has no decode.METHODS['shortstr']: hostile messages" in found.stderr
    assert "Traceback" not in found.stderr

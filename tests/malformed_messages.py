"""Malformed messages and forged headers, as bytes and tables that a sender can really publish.

HOSTILE: bodies that are no valid request. Each is answered with one `invalid_request` event, nothing is
posted for it, and it is parked only when it is not a JSON object. FORGED: good bodies under headers that
lie. Each is worked on like any other request, as one that may have been sent if its state cannot be read.
RAW_PROPERTIES: properties as bytes, which clients refuse to write or read but brokers pass on.
Where a body has room for it, its request id tells the message: `hostile-...` or `forged-...`.

`CC` and `BCC` are missing on purpose: the broker itself acts on them when a message is published.
"""

import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from pamqp.commands import Basic

from schemas import names
from tests.malformed_bodies import GOOD, MAX_BYTES, NO_OBJECT, NO_TEXT, OBJECT, REGION, REPEATED, TASK, WRONG

__all__ = ["FORGED", "GOOD", "HOSTILE", "MAX_BYTES", "RAW_PROPERTIES", "REGION", "TYPED_HEADERS", "Forged", "Hostile"]


@dataclass(frozen=True, slots=True)
class Hostile:
    """A message whose body is no valid request to a worker that knows one region, REGION."""

    name: str
    body: bytes
    headers: dict[str, Any] = field(default_factory=dict)
    expect_parked: bool = False


@dataclass(frozen=True, slots=True)
class Forged:
    """A message with a good body under headers that lie."""

    name: str
    body: bytes
    headers: dict[str, Any]
    is_unreadable: bool
    """A state header cannot be read."""


def _id(prefix: str, name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{prefix} {name}".lower()).rstrip("-")[:128]


def _body(prefix: str, name: str, changes: dict[str, object]) -> bytes:
    """GOOD with an id of its own and with `changes`; a field whose value is `...` is left out."""
    content = GOOD | {"request_id": _id(prefix, name)} | changes
    return json.dumps({key: value for key, value in content.items() if value is not ...}).encode()


OPTIONAL: Final = ("request_id", "region", "not_after", "description")
"""Where null means that the field was left out."""


def _no_text(name: str) -> dict[str, object]:
    return {kind: value for kind, value in NO_TEXT.items() if value is not None or name not in OPTIONAL}


def _wrong_values() -> Iterator[tuple[str, dict[str, object]]]:
    for name in GOOD:
        for kind, value in (_no_text(name) | WRONG[name]).items():
            yield f"{name} {kind}", {name: value}
        if name in ("project_id", "task"):
            yield f"{name} is missing", {name: ...}
    for name in TASK:
        for kind, value in (_no_text(name) | {"is too long": "x" * 1025}).items():
            yield f"task.{name} {kind}", {"task": TASK | {name: value}}
        if name != "description":
            yield f"task.{name} is missing", {"task": {other: TASK[other] for other in TASK if other != name}}


def _hostile() -> Iterator[Hostile]:
    for name, changes in _wrong_values():
        yield Hostile(name, _body("hostile", name, changes))
    for name, body in NO_OBJECT.items():
        yield Hostile(name, body, expect_parked=True)
    for name, body in (OBJECT | REPEATED).items():
        own = b'"request_id": "%b"' % _id("hostile", name).encode()
        yield Hostile(name, body.replace(b'"request_id": "hostile"', own))
    for forged in FORGED[::10]:
        name = f"no request, and {forged.name}"
        yield Hostile(name, _body("hostile", name, {"task": []}), forged.headers)
        yield Hostile(f"no JSON, and {forged.name}", f"no JSON {forged.name}".encode(), forged.headers, True)


_NO_VALUE: Final[dict[str, object]] = {
    "true": True,
    "a fraction": 1.5,
    "a decimal": Decimal("1.5"),
    "bytes": bytearray(b"\xff\x00"),
    "nothing": None,
    "a list": [1, "2", None],
    "a table": {"a": {"b": {"c": [{}]}}},
    "a deep table": json.loads('{"a": ' * 50 + "1" + "}" * 50),
    "an AMQP time": datetime(2026, 1, 1, tzinfo=UTC),
    "empty": "",
}
_NO_COUNT: Final[dict[str, object]] = _NO_VALUE | {
    "negative": -1,
    "huge": 2**63 - 1,
    "hugely negative": -(2**63),
    "too many": 1_000_001,
    "text": "3",
}
_NO_TIME: Final[dict[str, object]] = _NO_VALUE | {
    "seconds": 1767225600,
    "a word": "yesterday",
    "no offset": "2026-01-01T00:00:00",
    "a 13th month": "2026-13-01T00:00:00Z",
    "before the year 1": "0001-01-01T00:00:00+14:00",
    "after the year 9999": "9999-12-31T23:59:59-14:00",
    "a zero byte": "2026-01-01T00:00:00Z\0",
    "very long": "2026-01-01T00:00:00Z" * 1000,
}
_COUNTS: Final = (names.ATTEMPTS, names.ROUND, names.DELIVERIES, names.INTERRUPTIONS, names.REPLAYS)
_TIMES: Final = (names.FIRST_RECEIVED_AT, names.LAST_SENT_AT)

# Lies that can be read, and headers that are none of ours.
_READABLE: Final[dict[str, dict[str, Any]]] = {
    "a million attempts": {names.ATTEMPTS: 1_000_000},
    "a schedule used up": {names.ROUND: 1_000_000},
    "a million interruptions": {names.INTERRUPTIONS: 1_000_000},
    "received in the year 1": {names.FIRST_RECEIVED_AT: "0001-01-01T00:00:00Z"},
    "received in the year 9999": {names.FIRST_RECEIVED_AT: "9999-12-31T23:59:59Z"},
    "sent in the year 9999": {names.LAST_SENT_AT: "9999-12-31T23:59:59Z"},
    "sent before it was received": {
        names.FIRST_RECEIVED_AT: "2026-01-02T00:00:00Z",
        names.LAST_SENT_AT: "2026-01-01T00:00:00Z",
    },
    "many deliveries by the broker": {names.DELIVERY_COUNT: 1000},
    "deliveries by the broker as text": {names.DELIVERY_COUNT: "many"},
    "negative deliveries by the broker": {names.DELIVERY_COUNT: -5},
    "state in capitals": {"X-Attempts": 3, "X-Last-Sent-At": "2026-01-01T00:00:00Z"},
    "dead-lettering": {"x-death": [{"queue": "evil", "reason": "expired", "count": 5}], "x-first-death-queue": "evil"},
    "parked": {names.PARKED_REASON: {"a": 1}, names.PARKED_AT: 5},
    "an expiration": {names.EXPIRATION: "0", names.USER_ID: 5},
    "no trace": {names.TRACEPARENT: "garbage", names.TRACESTATE: "="},
    "a trace of no text": {names.TRACEPARENT: 5, names.TRACESTATE: [1]},
    "an event": {"cloudEvents:id": "a", "cloudEvents:type": "dcs.migration.succeeded.v1"},
    "an empty name": {"": "x"},
    "a long name": {"x" * 128: "x"},
    "a foreign name": {"заголовок": "значение"},
    "a long text": {"x-note": "x" * 10_000},
    "a thousand headers": {f"x-note-{number}": number for number in range(1000)},
}


def _forged() -> Iterator[Forged]:
    def forged(name: str, headers: dict[str, Any], is_unreadable: bool) -> Forged:
        task = TASK | {"name": _id("forged", name)}
        return Forged(name, _body("forged", name, {"task": task}), headers, is_unreadable)

    for header in _COUNTS:
        for kind, value in _NO_COUNT.items():
            yield forged(f"{header} {kind}", {header: value}, True)
    for header in _TIMES:
        for kind, value in _NO_TIME.items():
            yield forged(f"{header} {kind}", {header: value}, True)
    every = dict.fromkeys(_COUNTS, -1) | dict.fromkeys(_TIMES, 0)
    yield forged("all state at once", every, True)
    for name, headers in _READABLE.items():
        yield forged(name, headers, False)


FORGED: Final = tuple(_forged())
HOSTILE: Final = tuple(_hostile())


def raw_properties(**values: bytes) -> bytes:
    """Flags and values of AMQP properties, which no encoder has looked at."""
    flags = Basic.Properties.flags
    ordered = [name for name in Basic.Properties.attributes() if name in values]
    return sum(flags[name] for name in ordered).to_bytes(2) + b"".join(values[name] for name in ordered)


def raw_headers(*entries: bytes) -> bytes:
    """Properties that are headers alone."""
    return raw_properties(headers=_sized(b"".join(entries)))


def _sized(content: bytes) -> bytes:
    return len(content).to_bytes(4) + content


def _short(content: bytes) -> bytes:
    return len(content).to_bytes() + content


def _nested(kind: bytes, depth: int) -> bytes:
    content = b""
    for _ in range(depth):
        content = (b"\x01k" if kind == b"F" else b"") + kind + _sized(content)
    return b"\x01k" + kind + _sized(content)


_LATIN: Final = b"m\xfcnchen\xff"
_STAMPS: Final = {
    "microseconds": 1_767_225_600_000_000,
    "milliseconds": 1_767_225_600_123,
    "the largest": 2**64 - 1,
    "the year 10000": 253_402_300_800_000,
}
_VALUES: Final = {
    "boolean": b"t\x02",
    "signed octet": b"b\x80",
    "octet": b"B\xff",
    "signed short": b"s\x80\x00",
    "short": b"u\xff\xff",
    "signed long": b"I\x80\x00\x00\x00",
    "long": b"i\xff\xff\xff\xff",
    "signed long long": b"l\x80" + bytes(7),
    "float": b"f\x7f\xc0\x00\x00",
    "infinite float": b"f\x7f\x80\x00\x00",
    "double": b"d" + struct.pack(">d", 1e300),
    "infinite double": b"d\x7f\xf0" + bytes(6),
    "decimal of many places": b"D\xff\x7f\xff\xff\xff",
    "large decimal": b"D\x00\xff\xff\xff\xff",
    "long string": b"S" + _sized(_LATIN),
    "bytes": b"x" + _sized(b"\x00\xff"),
    "void": b"V",
    "array": b"A" + _sized(b"V" + b"S" + _sized(_LATIN) + b"T" + b"\xff" * 8 + b"A" + _sized(b"")),
    "unknown type": b"Z?",
    "value that is cut short": b"S\x00\x00\x00\xffa",
} | {f"timestamp of {kind}": b"T" + value.to_bytes(8) for kind, value in _STAMPS.items()}


RAW_PROPERTIES: Final[dict[str, bytes]] = {
    **{
        f"{name} that is not UTF-8": raw_properties(**{name: _short(_LATIN)})
        for name in (
            "content_type",
            "content_encoding",
            "correlation_id",
            "reply_to",
            "message_id",
            "message_type",
            "app_id",
            "cluster_id",
        )
    },
    "longest correlation_id": raw_properties(correlation_id=_short(b"\xff" * 255)),
    "longest reply_to": raw_properties(reply_to=_short(b"\xff" * 255)),
    **{f"timestamp of {kind}": raw_properties(timestamp=value.to_bytes(8)) for kind, value in _STAMPS.items()},
    "highest priority": raw_properties(priority=b"\xff"),
    **{f"header value, {kind}": raw_headers(b"\x06x-note" + value) for kind, value in _VALUES.items()},
    "header name that is not UTF-8": raw_headers(_short(_LATIN) + b"V"),
    "longest header name": raw_headers(_short(b"n" * 255) + b"V"),
    "header without a name": raw_headers(b"\x00V"),
    "header twice": raw_headers(b"\x01kb\x01", b"\x01kb\x02"),
    "headers within headers": raw_headers(_nested(b"F", 3000)),
    "arrays within arrays": raw_headers(_nested(b"A", 3000)),
    "state that is not UTF-8": raw_headers(_short(names.LAST_SENT_AT.encode()) + b"S" + _sized(_LATIN)),
}
"""Properties as bytes: what pamqp refuses to read, beside what it reads in another way than its sender meant."""


TYPED_HEADERS: Final = [
    b"\x0ax-typed-%02d" % number + type_ + value
    for number, (type_, value) in enumerate(
        (
            (b"t", b"\x01"),
            (b"b", b"\xff"),
            (b"B", b"\xff"),
            (b"s", struct.pack(">h", -2)),
            (b"u", struct.pack(">H", 65_535)),
            (b"I", struct.pack(">i", -3)),
            (b"i", struct.pack(">I", 2**32 - 1)),
            (b"l", struct.pack(">q", -(2**63))),
            (b"f", struct.pack(">f", 1.5)),
            (b"d", struct.pack(">d", 1_764_158_400.123)),
            (b"d", struct.pack(">d", 1e300)),
            (b"d", struct.pack(">d", -0.0)),
            (b"D", b"\x02" + struct.pack(">i", 12_345)),
            (b"S", struct.pack(">I", 5) + "süß".encode()),
            (b"S", struct.pack(">I", 4) + b"\xff\xfe\x00\x80"),
            (b"S", struct.pack(">I", 0)),
            (b"T", struct.pack(">Q", 1_764_158_400)),
            (b"T", struct.pack(">Q", 1_764_158_400_123)),
            (b"x", struct.pack(">I", 3) + b"\x00\xff\x01"),
            (b"V", b""),
            (b"A", struct.pack(">I", 9) + b"d" + struct.pack(">d", 0.1)),
            (b"F", struct.pack(">I", 11) + b"\x01ad" + struct.pack(">d", 0.1)),
        )
    )
] + [b"\x09m\xfcnchen\xff\xfeS\x00\x00\x00\x01a"]
"""Entries of a header table with each type that clients of Java, .NET, Go and Python write, and a name in Latin-1."""

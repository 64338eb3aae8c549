"""Tolerant readers and writers of AMQP properties, registered in pamqp's public tables.

pamqp raises on what AMQP 0-9-1 forbids but brokers pass on: short strings that are not UTF-8, times beyond the year
9999 (epoch nanoseconds, say), tables with types that it does not know. aiormq then drops the connection before any
callback runs, the broker delivers the same message to the next connection, and all its neighbours with it.
`decode.by_type`, `decode.embedded_value` and `encode.by_type` look their functions up in these tables at every call.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

import pamqp
from pamqp import decode, encode
from pamqp.commands import Basic

from schemas import names

_BYTES_AS_THEY_CAME: Final = "surrogateescape"
_UNREADABLE: Final[Mapping[str, object]] = {names.LAST_SENT_AT: None}
"""Headers that cannot be read count as "may have been sent", like any state header that cannot be read."""
_CALENDAR_SECONDS: Final = 1 << 32
"""Timestamps from here on are not seconds: pamqp takes them for milliseconds and would write them as seconds."""

_read_time, _read_table = decode.timestamp, decode.field_table
_write_text, _write_time, _write_table = encode.short_string, encode.timestamp, encode.field_table


class HeaderTable(dict[str, Any]):
    """Headers of a message that remember their bytes: pamqp reads many types but writes few, and cuts what it writes.

    `raw` is what came. `as_came` has the entries that are written so; the others are written by pamqp.
    """

    raw = b""
    as_came: Mapping[str, bytes] = {}

    def entries(self) -> dict[str, bytes]:
        """Name, type and value of each header, as they came; of a name that came twice, both."""
        found: dict[str, bytes] = {}
        # A last one may be cut short, or too deep for what is left of the stack: pamqp writes of it what it can.
        with suppress(ValueError, RecursionError):
            for name, entry, _ in _entries(self.raw):
                found[name] = found.get(name, b"") + entry
        return found


def _entries(raw: bytes) -> Iterator[tuple[str, bytes, Any]]:
    """Name, bytes and value of each header of a table. Raises ValueError for one that cannot be read."""
    while raw:
        start = 1 + raw[0]
        size, value = decode.embedded_value(raw[start:])
        end = start + size
        if end > len(raw):
            raise ValueError("a header is longer than its table")
        yield raw[1:start].decode("utf-8", _BYTES_AS_THEY_CAME), raw[:end], value
        raw = raw[end:]


class IncompatibleCodecError(Exception):
    """The installed pamqp cannot be made tolerant: no connection may be opened with it."""


def _text(value: bytes) -> tuple[int, str]:
    end = 1 + value[0] if value else 1
    return end, value[1:end].decode("utf-8", _BYTES_AS_THEY_CAME)


def _time(value: bytes) -> tuple[int, Any]:
    """Seconds as pamqp reads them; anything larger as the number that it is, so that a copy can carry it unchanged."""
    number = int.from_bytes(value[:8])
    return (8, number) if number >= _CALENDAR_SECONDS else _read_time(value)


def _header_time(value: bytes) -> tuple[int, Any]:
    """None for a time that the calendar does not hold: in a header a number would be written as another type."""
    try:
        return _read_time(value)
    except (ValueError, OverflowError, OSError):
        return 8, None


def _table(value: bytes) -> tuple[int, Any]:
    try:
        return _read_table(value)
    except (ValueError, OverflowError, RecursionError):
        return 4 + int.from_bytes(value[:4]), dict(_UNREADABLE)


def _headers(value: bytes) -> tuple[int, Any]:
    end, found = _table(value)
    raw = value[4:end]
    if found == _UNREADABLE:  # names that are not UTF-8 are read all the same, and written again
        try:
            found = {name: content for name, _, content in _entries(raw)}
        except (ValueError, OverflowError, RecursionError):
            raw = b""
    table = HeaderTable(found)
    table.raw = raw
    return end, table


def _written_headers(value: Any) -> bytes:
    as_came = value.as_came if isinstance(value, HeaderTable) else {}
    if not as_came:
        return _write_table(value)
    content = b"".join(as_came.get(name) or _write_table({name: value[name]})[4:] for name in value)
    return len(content).to_bytes(4) + content


def _written_text(value: str) -> bytes:
    try:
        return _write_text(value)
    except UnicodeEncodeError:
        content = value.encode("utf-8", _BYTES_AS_THEY_CAME)
        return len(content).to_bytes() + content


def _written_time(value: Any) -> bytes:
    return value.to_bytes(8) if isinstance(value, int) else _write_time(value)


_Table = dict[Any, Callable[..., Any]]
_ENTRIES: Final[tuple[tuple[str, _Table, dict[Any, Callable[..., Any]]], ...]] = (
    ("decode.METHODS", decode.METHODS, {"shortstr": _text, "timestamp": _time, "table": _headers}),
    ("decode.TABLE_MAPPING", decode.TABLE_MAPPING, {b"T": _header_time, b"F": _table}),
    (
        "encode.METHODS",
        encode.METHODS,
        {"shortstr": _written_text, "timestamp": _written_time, "table": _written_headers},
    ),
)
_HOSTILE: Final = b"\x24\x40" + b"\x00\x00\x00\x04\x01kZ?" + b"\x01\xff" + b"\xff" * 8
"""Properties that the original functions refuse: an unknown type in the headers, a correlation id, a timestamp."""


def install() -> None:
    """Register the functions for this process. Raises IncompatibleCodecError if pamqp lacks an entry or ignores one."""
    missing = [f"{table}[{key!r}]" for table, present, ours in _ENTRIES for key in ours if key not in present]
    if missing:
        raise IncompatibleCodecError(_refusal(f"has no {', '.join(missing)}"))
    for _, present, ours in _ENTRIES:
        present.update(ours)
    _check()


def _check() -> None:
    """Read and write properties that only the registered functions can read and write."""
    found = Basic.Properties()
    try:
        found.unmarshal(int.from_bytes(_HOSTILE[:2]), _HOSTILE[2:])
        written = found.marshal()
    except Exception as error:
        raise IncompatibleCodecError(_refusal(f"does not use its tables: {error}")) from error
    if found.correlation_id != "\udcff" or not written.endswith(_HOSTILE[-10:]):
        raise IncompatibleCodecError(_refusal("reads properties in another way"))


def _refusal(found: str) -> str:
    return (
        f"pamqp {pamqp.version} {found}: hostile messages would break the connection to the broker, so the worker "
        "does not start; install the versions of requirements.lock"
    )

"""What a sender puts into properties and headers never breaks a connection or holds up a copy (law 11).

pamqp raises on what AMQP 0-9-1 forbids but brokers pass on: short strings that are no UTF-8, times beyond the
year 9999 (epoch microseconds, say). aiormq then drops the connection, the broker delivers the same message to
the next one, and all its neighbours with it. So these few readers and writers are made tolerant, in this process.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from pamqp import decode, encode

from schemas import names

Reader = Callable[[bytes], tuple[int, Any]]

_BYTES_AS_THEY_CAME: Final = "surrogateescape"
_UNREADABLE: Final[Mapping[str, object]] = {names.LAST_SENT_AT: None}
"""Headers that cannot be read count as "may have been sent", like any state header that cannot be read."""

LARGEST: Final = 120_000
"""Bytes of headers in a copy: a frame of RabbitMQ holds 131,072, and other properties go with them."""

_read_text, _read_time, _read_table = decode.short_str, decode.timestamp, decode.field_table
_write_text = encode.short_string


def _text(value: bytes) -> tuple[int, str]:
    try:
        return _read_text(value)
    except UnicodeDecodeError:
        end = 1 + value[0]
        return end, value[1:end].decode("utf-8", _BYTES_AS_THEY_CAME)


def _time(value: bytes) -> tuple[int, Any]:
    try:
        return _read_time(value)
    except (ValueError, OverflowError, OSError):
        return 8, None


def _table(value: bytes) -> tuple[int, Any]:
    try:
        return _read_table(value)
    except (ValueError, OverflowError, RecursionError):
        return 4 + int.from_bytes(value[:4]), dict(_UNREADABLE)


def _written_text(value: str) -> bytes:
    try:
        return _write_text(value)
    except UnicodeEncodeError:
        content = value.encode("utf-8", _BYTES_AS_THEY_CAME)
        return len(content).to_bytes() + content


def install() -> None:
    """Make the readers and writers of this process tolerant. Doing it again changes nothing."""
    tolerant: dict[Any, Any] = {
        _read_text: _text,
        _read_time: _time,
        _read_table: _table,
        _write_text: _written_text,
    }
    tables: tuple[dict[Any, Any], ...] = (decode.METHODS, decode.TABLE_MAPPING, encode.METHODS)
    for table in tables:
        for name, function in table.items():
            table[name] = tolerant.get(function, function)


def encodable(headers: Mapping[str, object]) -> dict[str, Any]:
    """The headers that a copy can carry.

    Left out are those that were read but cannot be written again (1e300, text that is no UTF-8), and the largest of
    the sender's once all together would no longer fit into one frame: the broker would close the connection.
    """
    sizes = {name: size for name, value in headers.items() if (size := _size(name, value)) is not None}
    total = sum(sizes.values())
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if total <= LARGEST:
            break
        if name not in names.STATE:
            total -= sizes.pop(name)
    return {name: headers[name] for name in headers if name in sizes}


def _size(name: object, value: object) -> int | None:
    try:
        return len(encode.field_table({name: value}))  # type: ignore[dict-item]  # that is the question
    except Exception:  # noqa: BLE001 - whatever the encoder cannot take
        return None

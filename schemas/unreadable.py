"""Bodies that are no JSON in UTF-8: what they are, in words for their sender, and the JSON that is found in them."""

import json
import re
import zlib
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from typing import Any, Final

from .violations import NAME_CHARACTERS, BrokenRule

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""Some programs write it before text in UTF-8."""

_LIMIT: Final = 1 << 16
"""Bytes that are unpacked at most: no valid request has more, but a small body can hold gigabytes."""

_COMPRESSED: Final = {
    b"\x1f\x8b": "gzip",
    b"\x78\x01": "deflate",
    b"\x78\x5e": "deflate",
    b"\x78\x9c": "deflate",
    b"\x78\xda": "deflate",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
}
_COMPRESSING_ENCODINGS: Final = frozenset(
    ["br", "bzip2", "compress", "deflate", "gzip", "lz4", "lzma", "snappy", "x-compress", "x-gzip", "xz", "zstd"]
)
"""Values of `content_encoding`; some libraries write a character set there, or what they like."""
_AMQP_SECTIONS: Final = (b"\0\x53\x75", b"\0\x53\x76", b"\0\x53\x77")
"""Data, sequence and value (AMQP 1.0, 3.2.6 to 3.2.8)."""
_AMQP_LENGTH_BYTES: Final = {0xA0: 1, 0xA1: 1, 0xB0: 4, 0xB1: 4}
"""Binary and string values of AMQP 1.0 (1.6.19 and 1.6.20): the bytes of their length, by type code."""
_LEVELS: Final = 2
"""Of a request: reading and writing need the more stack, the deeper a body is."""
_BRACKETS: Final = 100
"""A body with fewer is not deep."""
_BRACKET: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)
"""A bracket, or a text, whose brackets are none."""
_HALF: Final = re.compile("[\ud800-\udfff]")

HALVED: Final = "contains half a character (one half of a surrogate pair): cut texts between characters"
NOT_UTF8: Final = "contains bytes that are not UTF-8"


def identify(body: bytes, content_encoding: str, reason: str) -> tuple[list[BrokenRule], Any]:
    """What is wrong with `body`, and the JSON in it; None if none can be read. `reason`: of the JSON parser."""
    compression = next((name for magic, name in _COMPRESSED.items() if body.startswith(magic)), None)
    encoding = _wide_encoding(body)
    content = None if compression or body.startswith(BYTE_ORDER_MARK) else _read(body, bytes)
    if content is not None and encoding is None:
        return _halved(content, HALVED) or [("body", f"is JSON that cannot be read: {reason}")], content
    if content is None and compression is None and content_encoding.lower() in _COMPRESSING_ENCODINGS:
        compression = content_encoding.lower()
    if compression is not None:
        return _in_form(f"is compressed ({compression}): send JSON in UTF-8, not compressed", _read(body, _unpacked))
    if body.startswith(_AMQP_SECTIONS):
        return _in_form("is an AMQP 1.0 value: send JSON in UTF-8 as one data section", _read(body, _amqp_value))
    if encoding is not None:
        return _in_form(f"is text in {encoding}: send JSON in UTF-8", content)
    for unwrap, message in (
        (_unmarked, "has a byte order mark that is not at its beginning"),
        (_base64, "is in base64: send the JSON itself, in UTF-8"),
    ):
        if (content := _read(body, unwrap)) is not None:
            return _in_form(message, content)
    content = None if body.isascii() else _read(body, _ascii)
    return [("body", f"is not JSON in UTF-8: {reason}"), *_halved(content, NOT_UTF8)], content


def decoded_text(text: str) -> Any:
    """The JSON in a text that was JSON itself, or base64; None if it holds none."""
    return _read(text.encode(), bytes) or _read(text.encode(), _base64)


def _in_form(message: str, content: Any) -> tuple[list[BrokenRule], Any]:
    return [("body", message), *_halved(content, HALVED)], content


def _halved(content: object, message: str, path: str = "") -> list[BrokenRule]:
    """The fields of a request's two levels with text that UTF-8 cannot hold, such as half a character."""
    if isinstance(content, dict) and path in ("", "task") and not any(map(_HALF.search, content)):
        found = (_halved(value, message, f"{path}.{name}" if path else name) for name, value in content.items())
        return list(chain.from_iterable(found))
    is_halved = _HALF.search(json.dumps(content, ensure_ascii=False)) is not None
    return [(path[:NAME_CHARACTERS] or "body", message)] if is_halved else []


def _read(body: bytes, unwrap: Callable[[bytes], bytes]) -> Any:
    """The JSON in what `unwrap` finds in `body`; json reads UTF-8, UTF-16 and UTF-32, and halves of surrogate pairs."""
    try:
        # Integers have no limit in JSON, but one in Python.
        return json.loads(_shallow(unwrap(body)), parse_int=float)
    except (ValueError, IndexError, zlib.error):
        return None


def _shallow(text: bytes) -> bytes:
    """The text, if it may be deep with null for all that is more than _LEVELS deep; empty if brackets are no pairs."""
    if text.count(b"{") + text.count(b"[") <= _BRACKETS:
        return text
    kept, depth, end = list[bytes](), 0, 0
    for bracket in _BRACKET.finditer(text):
        if bracket[0] in (b"{", b"["):
            depth += 1
            if depth == _LEVELS + 1:
                kept.append(text[end : bracket.start()] + b"null")
        elif bracket[0] in (b"}", b"]"):
            if depth == _LEVELS + 1:
                end = bracket.end()
            depth -= 1
    return b"".join(kept) + text[end:] if depth == 0 else b""


def _unpacked(body: bytes) -> bytes:
    for form in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):  # gzip or zlib, by its header, or without one
        with suppress(zlib.error):
            return zlib.decompressobj(form).decompress(body, _LIMIT)
    return b""


def _unmarked(body: bytes) -> bytes:
    """The body without byte order marks; empty if it has none."""
    return body.replace(BYTE_ORDER_MARK, b"") if BYTE_ORDER_MARK in body else b""


def _amqp_value(body: bytes) -> bytes:
    start = len(_AMQP_SECTIONS[0]) + 1
    return body[start + _AMQP_LENGTH_BYTES.get(body[start - 1], len(body)) :]


def _ascii(body: bytes) -> bytes:
    """What is ASCII in any encoding that holds it, as the ids of a request are; other bytes become half characters."""
    return body.decode(errors="surrogateescape").encode(errors="surrogatepass")


def _base64(body: bytes) -> bytes:
    return b64decode(body.strip(), altchars=b"-_" if b"-" in body or b"_" in body else None)


def _wide_encoding(body: bytes) -> str | None:
    """UTF-16 or UTF-32, by its byte order mark, or by the zero bytes of the first characters (both are ASCII)."""
    if body.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")) or body[:4].count(0) == 3:
        return "UTF-32"
    if body.startswith((b"\xff\xfe", b"\xfe\xff")) or body[:4].count(0) == 2:
        return "UTF-16"
    return None

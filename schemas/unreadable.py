"""Bodies that are no JSON in UTF-8: what they are, in words for their sender, and the JSON that is found in them."""

import json
import re
import zlib
from base64 import b64decode
from collections.abc import Callable
from typing import Any, Final

_LIMIT: Final = 1 << 18
"""Bytes that are unpacked at most: a small body can hold gigabytes."""

_COMPRESSED: Final = {
    b"\x1f\x8b": "gzip",
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
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}\s*")


def identify(body: bytes, content_encoding: str, reason: str) -> tuple[str, Any]:
    """What is wrong with `body`, and the JSON in it; None if none can be read. `reason`: of the JSON parser."""
    compression = next((name for magic, name in _COMPRESSED.items() if body.startswith(magic)), None)
    if compression is None and content_encoding.lower() in _COMPRESSING_ENCODINGS:
        compression = content_encoding.lower()
    if compression is not None:
        return f"is compressed ({compression}): send JSON in UTF-8, not compressed", _read(body, _unpacked)
    if body.startswith(_AMQP_SECTIONS):
        return "is an AMQP 1.0 value: send JSON in UTF-8 as one data section", _read(body, _amqp_value)
    if (encoding := _wide_encoding(body)) is not None:
        return f"is text in {encoding}: send JSON in UTF-8", _read(body, bytes)
    if (content := _read(body, bytes)) is not None:
        return f"is JSON that cannot be read: {reason}", content
    if _BASE64.fullmatch(body) and (content := _read(body, _base64)) is not None:
        return "is in base64: send the JSON itself, in UTF-8", content
    return f"is not JSON in UTF-8: {reason}", _read(body, _ascii)


def decoded_text(text: str) -> Any:
    """The JSON in a text that was JSON itself; None if it holds none."""
    return _read(text.encode(), bytes)


def _read(body: bytes, unwrap: Callable[[bytes], bytes]) -> Any:
    """The JSON in what `unwrap` finds in `body`; json reads UTF-8, UTF-16 and UTF-32, and halves of surrogate pairs."""
    try:
        # Integers have no limit in JSON, but one in Python.
        return json.loads(unwrap(body), parse_int=float)
    except (ValueError, RecursionError, IndexError, zlib.error):
        return None


def _unpacked(body: bytes) -> bytes:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(body, _LIMIT)  # 32: gzip or zlib, by its header


def _amqp_value(body: bytes) -> bytes:
    start = len(_AMQP_SECTIONS[0]) + 1
    return body[start + _AMQP_LENGTH_BYTES.get(body[start - 1], len(body)) :]


def _ascii(body: bytes) -> bytes:
    """What is ASCII in any encoding that holds it; the ids of a request are."""
    return body.decode(errors="replace").encode()


def _base64(body: bytes) -> bytes:
    return b64decode(body.strip(), altchars=b"-_" if b"-" in body or b"_" in body else None)


def _wide_encoding(body: bytes) -> str | None:
    """UTF-16 or UTF-32, by its byte order mark, or by the zero bytes of the first characters (both are ASCII)."""
    if body.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")) or body[:4].count(0) == 3:
        return "UTF-32"
    if body.startswith((b"\xff\xfe", b"\xfe\xff")) or body[:4].count(0) == 2:
        return "UTF-16"
    return None

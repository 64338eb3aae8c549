"""Properties of events, written in one go: every event has the same few, and the general encoder is slow.

The layout is that of AMQP 0-9-1, 4.2.6.1: flags, then the properties that they announce, in the order of the flags.
"""

from functools import lru_cache
from typing import Final

from pamqp.commands import Basic

_FLAGS: Final = Basic.Properties.flags
_ALWAYS: Final = sum(
    _FLAGS[name] for name in ("content_type", "headers", "delivery_mode", "message_id", "message_type")
)
_CORRELATED: Final = _ALWAYS | _FLAGS["correlation_id"]


class EventProperties(Basic.Properties):
    """Content type, headers of text, delivery mode, message id, type, and perhaps a correlation id; no others."""

    def marshal(self) -> bytes:
        """The encoding: by the general encoder, and with its exceptions, where this one cannot have it."""
        try:
            return self._written()
        except (AttributeError, ValueError, OverflowError):  # no text, no UTF-8, too long
            return super().marshal()

    def _written(self) -> bytes:
        headers: dict[str, str] = self.headers or {}  # type: ignore[assignment]  # what is no text ends the attempt
        parts = [_name(name) + len(text := value.encode()).to_bytes(4) + text for name, value in headers.items()]
        table = b"".join(parts)
        correlation, identity = (self.correlation_id or "").encode(), (self.message_id or "").encode()
        return b"".join((
            (_CORRELATED if correlation else _ALWAYS).to_bytes(2),
            _short(self.content_type),
            len(table).to_bytes(4),
            table,
            (self.delivery_mode or 0).to_bytes(),
            len(correlation).to_bytes() + correlation if correlation else b"",
            len(identity).to_bytes() + identity,
            _short(self.message_type),
        ))  # fmt: skip


@lru_cache(maxsize=64)
def _name(name: str) -> bytes:
    """A header's name, and that its value is a long string."""
    return _short(name) + b"S"


@lru_cache(maxsize=64)
def _short(text: str | None) -> bytes:
    content = (text or "").encode()
    return len(content).to_bytes() + content

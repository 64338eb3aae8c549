"""Frames as they are read: all that came at once, and the kinds that come with every request without detours.

aiormq reads each frame in four steps of its own; pamqp's decoder knows every kind of frame, and is slow for it.
"""

import asyncio
from struct import Struct
from typing import Any, Final

from aiormq import connection as aiormq
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError
from pamqp import constants, decode, frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.exceptions import PAMQPException
from pamqp.header import ContentHeader

CHUNK: Final = 1 << 16
HEAD: Final = Struct(">BHI")
"""What a frame begins with: its kind, its channel, the size of its payload."""
END: Final = b"\xce"
"""What it ends with."""
_OVERHEAD: Final = 8
"""Bytes of a frame besides its payload."""
_CONTENT: Final = Struct(">HHQH")
_LEAST: Final = 7 + _CONTENT.size + 1
"""Bytes of the frame of a content header without properties."""
_PROPERTIES: Final = tuple(
    (name, flag, Basic.Properties.amqp_type(name)) for name, flag in Basic.Properties.flags.items()
)
_DELIVERED: Final = (60 << 16 | 60).to_bytes(4)
_ACKED: Final = (60 << 16 | 80).to_bytes(4)


class Receiver(aiormq.FrameReceiver):
    """Reads what there is, and takes one frame after the other out of it."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._data, self._at = b"", 0

    async def get_frame(self) -> tuple[int, int, Any]:
        """The next frame. Raises AMQPConnectionError once the connection is gone."""
        if not self.started:
            return await super().get_frame()  # the answer may be none of AMQP
        while (content := self._taken()) is None:
            await self._more()
        try:
            return _read(content) or frame.unmarshal(content)
        except PAMQPException as error:
            raise InvalidFrameError(str(error)) from error

    def _taken(self) -> bytes | None:
        start = self._at
        if start + _OVERHEAD > len(self._data):
            return None
        _, _, size = HEAD.unpack_from(self._data, start)
        end = start + _OVERHEAD + size
        if end > len(self._data):
            return None
        self._at = end
        return self._data[start:end]

    async def _more(self) -> None:
        rest = self._data[self._at :]
        try:
            more = await self.reader.read(CHUNK)
        except OSError as error:
            raise AMQPConnectionError(f"Server communication error: {error!r}") from error
        if not more:
            raise AMQPConnectionError("Server connection unexpectedly closed")
        self._data, self._at = rest + more, 0


def install() -> None:
    """Let connections of this process read so. Doing it again changes nothing."""
    aiormq.FrameReceiver = Receiver  # type: ignore[misc]


def _read(content: bytes) -> tuple[int, int, Any] | None:
    """A frame of the three kinds that come with every request; None: another one, or it is not as it should be."""
    kind, channel, size = HEAD.unpack_from(content)
    if content[-1] != END[0]:
        return None
    if kind == constants.FRAME_BODY:
        return len(content), channel, ContentBody(content[7:-1])
    if kind == constants.FRAME_HEADER:
        header = _header(content)
        return (len(content), channel, header) if header is not None else None
    method = content[7:11]
    if method == _ACKED and size == 13:
        return len(content), channel, Basic.Ack(int.from_bytes(content[11:19]), bool(content[19] & 1))
    if method != _DELIVERED or kind != constants.FRAME_METHOD:
        return None
    deliver = Basic.Deliver.__new__(Basic.Deliver)  # what the constructor forbids is read all the same
    deliver.consumer_tag, at = _short(content, 11)
    deliver.delivery_tag, deliver.redelivered = int.from_bytes(content[at : at + 8]), bool(content[at + 8] & 1)
    deliver.exchange, at = _short(content, at + 9)
    deliver.routing_key, _ = _short(content, at)
    return len(content), channel, deliver


def _header(content: bytes) -> ContentHeader | None:
    """A content header: size and flags, then the properties that they announce, in the order of the flags."""
    if len(content) < _LEAST or content[_LEAST - 2] & 1:
        return None  # more flags than there are properties
    header, at = ContentHeader(), _LEAST - 1
    header.class_id, header.weight, header.body_size, flags = _CONTENT.unpack_from(content, 7)
    for name, flag, kind in _PROPERTIES:
        if flags & flag:
            if kind == "shortstr":
                value: Any
                value, at = _short(content, at)
            else:
                size, value = decode.by_type(content[at:-1], kind)
                at += size
            setattr(header.properties, name, value)
    return header if at < len(content) else None  # else it was cut short


def _short(content: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + content[at]
    return content[at + 1 : end].decode("utf-8", "surrogateescape"), end

"""Frames of one channel, handled at once or in batches where aiormq takes a task, a queue or a system call for each.

What is not handled here goes aiormq's way, and no confirm overtakes it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import lru_cache
from struct import Struct
from typing import Any, Final

from aiormq import Channel
from aiormq import connection as aiormq
from aiormq.abc import ChannelFrame
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError
from pamqp import constants, decode, frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.exceptions import PAMQPException
from pamqp.header import ContentHeader

Taken = Callable[[Basic.Deliver, Basic.Properties, bytes], None]

CHUNK: Final = 1 << 16
_OVERHEAD: Final = 8
"""Bytes of a frame besides its payload."""
_HEAD: Final = Struct(">BHI")
_ACK: Final = Struct(">BHIHHQBB")
_END: Final = b"\xce"
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
        _, _, size = _HEAD.unpack_from(self._data, start)
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


class Inlet:
    """Frames in. Takes the place of `channel.frames`, the queue that aiormq's own reader is behind."""

    def __init__(self, channel: Channel) -> None:
        self.takers: dict[str, Taken] = {}
        """Who takes deliveries, by consumer tag."""
        self._channel = channel
        self._others = channel.frames
        self._deliver: Basic.Deliver | None = None
        self._header = ContentHeader()
        self._body = b""
        self.get, self.task_done = self._others.get, self._others.task_done
        channel.frames = self  # type: ignore[assignment]

    async def put(self, item: tuple[int, Any]) -> None:
        """A frame has come. Deliveries are handled at once, confirms unless something came before that still waits.

        Deliveries overtake what waits: else, under load, whatever is answered while they come (a consumer that
        begins, a question) would send all the deliveries behind it aiormq's way, and those behind them, for ever.
        """
        frame = item[1]
        if self._is_taken(frame):
            return
        if isinstance(frame, Basic.Ack | Basic.Nack) and self._others.empty():
            self._confirmed(frame)
            return
        await self._others.put(item)

    def _is_taken(self, frame: Any) -> bool:
        """Whether it was part of a delivery that somebody here takes. The broker sends one content after the other."""
        match frame:
            case ContentBody() if self._deliver is not None:
                self._body = self._body + frame.value if self._body else frame.value
                self._complete()
            case ContentHeader() if self._deliver is not None:
                self._header = frame
                self._complete()
            case Basic.Deliver() if frame.consumer_tag in self.takers:
                self._deliver, self._body = frame, b""
            case _:
                return False
        return True

    def _complete(self) -> None:
        if len(self._body) < (self._header.body_size or 0):
            return
        deliver, self._deliver = self._deliver, None
        assert deliver is not None
        assert deliver.consumer_tag is not None
        self.takers[deliver.consumer_tag](deliver, self._header.properties, self._body)

    def _confirmed(self, frame: Basic.Ack | Basic.Nack) -> None:
        confirm, tag = self._channel._confirm_delivery, frame.delivery_tag or 0
        if not frame.multiple:
            confirm(tag, frame)
            return
        waiting = self._channel.confirmations
        while waiting and (oldest := next(iter(waiting))) <= tag:
            confirm(oldest, frame)


class Outlet:
    """Frames out: those of one turn of the event loop in one piece. `run` writes them for as long as it is awaited."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._parts: list[bytes] = []
        self._has_parts = asyncio.Event()

    def ack(self, tag: int) -> None:
        """Acknowledge a delivery."""
        self._parts.append(_ACK.pack(1, self._channel.number, 13, 60, 80, tag, 0, 0xCE))
        self._has_parts.set()

    async def run(self) -> None:
        """Write what is sent."""
        while True:
            await self._has_parts.wait()
            await self.flush()

    async def flush(self) -> None:
        """Hand everything to the connection."""
        self._has_parts.clear()
        parts, self._parts = self._parts, []
        if parts:
            await self._channel.write_queue.put(ChannelFrame(b"".join(parts), should_close=False))


class Confirmed:
    """Messages out, each with the future of its confirm; in batches as those of an outlet."""

    def __init__(self, channel: Channel, deadline: float) -> None:
        self._channel = channel
        self._deadline = deadline
        self._sent: list[tuple[asyncio.Future[Any], bytes]] = []
        self._has_sent = asyncio.Event()
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()

    def publish(self, exchange: str, key: str, properties: Basic.Properties, body: bytes) -> asyncio.Future[Any]:
        """Send a message. The future ends with the confirm, with DeliveryError, TimeoutError or ConnectionError."""
        confirm: asyncio.Future[Any] = self._channel.loop.create_future()
        self._sent.append((confirm, self._written(exchange, key, properties, body)))
        self._has_sent.set()
        waiting = self._waiting
        waiting.append((confirm, self._channel.loop.time() + self._deadline))
        while waiting[0][0].done():
            waiting.popleft()
        return confirm

    def expire(self) -> None:
        """End what waits past its deadline; to be called again and again."""
        now, waiting = self._channel.loop.time(), self._waiting
        while waiting and (waiting[0][0].done() or waiting[0][1] < now):
            _fail(waiting.popleft()[0], TimeoutError())

    def close(self) -> None:
        """End all that waits: the channel is gone."""
        while self._waiting:
            _fail(self._waiting.popleft()[0], ConnectionError("the channel is gone"))

    def _written(self, exchange: str, key: str, properties: Basic.Properties, body: bytes) -> bytes:
        number, largest = self._channel.number, self._channel.max_content_size
        header = ContentHeader(body_size=len(body), properties=properties).marshal()
        parts = [_method(number, exchange, key), _HEAD.pack(2, number, len(header)), header, _END]
        for start in range(0, len(body), largest):
            part = body[start : start + largest]
            parts += (_HEAD.pack(3, number, len(part)), part, _END)
        return b"".join(parts)

    async def run(self) -> None:
        """Write what is sent."""
        channel = self._channel
        while True:
            await self._has_sent.wait()
            async with channel.lock:  # the broker counts messages as they come: theirs and those of `basic_publish`
                self._has_sent.clear()
                sent, self._sent = self._sent, []
                parts = []
                for confirm, message in sent:
                    if not confirm.done():  # else nobody waits for it any more
                        channel.delivery_tag += 1
                        channel.confirmations[channel.delivery_tag] = confirm
                        parts.append(message)
                await channel.write_queue.put(ChannelFrame(b"".join(parts), should_close=False))


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """`work` goes on in a task meanwhile."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _fail(confirm: asyncio.Future[Any], error: Exception) -> None:
    if not confirm.done():
        confirm.set_exception(error)


def _read(content: bytes) -> tuple[int, int, Any] | None:
    """A frame of the three kinds that come with every request; None: another one, or it is not as it should be."""
    kind, channel, size = _HEAD.unpack_from(content)
    if content[-1] != _END[0]:
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


@lru_cache(maxsize=64)
def _method(number: int, exchange: str, key: str) -> bytes:
    return frame.marshal(Basic.Publish(exchange=exchange, routing_key=key), number)

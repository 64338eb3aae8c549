"""A sender that writes the properties of its messages as bytes: what no client library would encode."""

import asyncio
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pamqp import frame
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel, Confirm, Connection
from pamqp.header import ProtocolHeader

FRAME_HEAD = 7


class RawSender:
    """One connection and one channel with confirms; to be opened anew once the broker has closed it."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._url.hostname, self._url.port)
        self._writer.write(ProtocolHeader().marshal())
        await self._read()
        response = f"\0{self._url.username}\0{self._url.password}"
        await self._ask(Connection.StartOk({}, "PLAIN", response))
        self._write(Connection.TuneOk(channel_max=100, frame_max=131_072, heartbeat=0), 0)
        await self._ask(Connection.Open(unquote(self._url.path[1:]) or "/"))
        await self._ask(Channel.Open(), 1)
        await self._ask(Confirm.Select(), 1)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    async def publish(self, queue: str, properties: bytes, body: bytes) -> bool:
        """Publish one message; False if the broker closes the channel or the connection for it."""
        self._write(Basic.Publish(routing_key=queue, mandatory=True), 1)
        header = b"\x00\x3c\x00\x00" + len(body).to_bytes(8) + properties
        self._writer.write(b"\x02\x00\x01" + len(header).to_bytes(4) + header + b"\xce")
        self._write(ContentBody(body), 1)
        try:
            return isinstance(await self._read(), Basic.Ack)
        except EOFError:
            return False

    async def get(self, queue: str) -> bytes:
        """Flags and values of the properties of a message that is taken away; empty if there is none."""
        answer = await self._ask(Basic.Get(queue=queue, no_ack=True), 1)
        if isinstance(answer, Basic.GetEmpty):
            return b""
        header = await self._read_frame()
        await self._read_frame()
        return header[FRAME_HEAD + 12 : -1]

    async def _ask(self, method: Any, channel: int = 0) -> Any:
        self._write(method, channel)
        return await self._read()

    def _write(self, value: Any, channel: int) -> None:
        self._writer.write(frame.marshal(value, channel))

    async def _read(self) -> Any:
        return frame.unmarshal(await self._read_frame())[2]

    async def _read_frame(self) -> bytes:
        async with asyncio.timeout(10):
            head = await self._reader.readexactly(FRAME_HEAD)
            return head + await self._reader.readexactly(int.from_bytes(head[3:]) + 1)

"""Frames in: deliveries and confirms of one channel, handled at once where aiormq takes a task or a queue for each.

What is not handled here goes aiormq's way, and no confirm overtakes it.
"""

from collections.abc import Callable
from typing import Any

from aiormq import Channel
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

Taken = Callable[[Basic.Deliver, Basic.Properties, bytes], None]


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

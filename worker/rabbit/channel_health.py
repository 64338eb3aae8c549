"""What a delivery stands on: one channel, and whether the broker was heard on its connection.

Law 5: a delivery tag dies with its channel, and a process that was frozen does not know whether its
channel lives. So ground is lost with the channel, and doubtful after silence until the broker answers.
"""

import asyncio
import time
from typing import Final

from aiormq import Channel

from worker.policy.freeze_detector import FreezeDetector
from worker.rabbit.ack_writer import AckWriter
from worker.rabbit.connect import HEARTBEAT
from worker.rabbit.connection_loss import ConnectionLostError, connection_loss_as_error

PROBE_EVERY: Final = 3.0
PROBE_DEADLINE: Final = 5.0
"""Seconds without an answer and without a delivery, after which the channel is given up."""


class ChannelHealth:
    """One consuming channel. `probes` is a channel of the same connection, for questions."""

    def __init__(self, channel: Channel, probes: Channel, queue: str, freeze_detector: FreezeDetector) -> None:
        self.channel = channel
        self.acks = AckWriter(channel)
        self.consumers = 0
        """Consumers of the queue, as the broker last counted them."""
        self.messages = 0
        """Messages ready in the queue, as the broker last counted them."""
        self._probes = probes
        self._queue = queue
        self._freeze_detector = freeze_detector
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._heard_at = time.monotonic()
        self._freezes = freeze_detector.tick()
        self._asking: asyncio.Task[bool] | None = None
        self._probe_timeout: asyncio.Timeout | None = None

    def __repr__(self) -> str:
        return f"<Ground: {self._lost.result() if self._lost.done() else 'firm'}>"

    def is_lost(self) -> bool:
        """True once the channel is gone."""
        return self._lost.done() or self.channel.is_closed

    def mark_lost(self, reason: str) -> None:
        """The channel is gone, or must be given up."""
        if not self._lost.done():
            self._lost.set_result(reason)

    def note_delivery(self) -> None:
        """A delivery came. The answer to a probe comes behind all that the broker sent before, and has its time anew.

        With 1,024 deliveries in front of it a busy machine takes longer than PROBE_DEADLINE: the connection would be
        dropped, and everything delivered once more.
        """
        if self._probe_timeout is not None and not self._probe_timeout.expired():
            self._probe_timeout.reschedule(asyncio.get_running_loop().time() + PROBE_DEADLINE)

    async def lost(self) -> str:
        """Wait until the ground is lost; the reason."""
        return await asyncio.shield(self._lost)

    async def is_still_ours(self) -> bool:
        """Whether deliveries of this channel are still ours, asked of the broker if it was silent."""
        if self.is_lost():
            return False
        is_fresh = time.monotonic() - self._heard_at <= HEARTBEAT and self._freeze_detector.tick() == self._freezes
        return is_fresh or await self.probe()

    async def probe(self) -> bool:
        """Ask the broker something. False: no answer, and the ground is lost."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> bool:
        freezes = self._freeze_detector.tick()
        try:
            with connection_loss_as_error():
                async with asyncio.timeout(PROBE_DEADLINE) as self._probe_timeout:
                    answer = await self._probes.queue_declare(self._queue, passive=True)
        except ConnectionLostError as error:
            self.mark_lost(str(error))
            return False
        except Exception as error:  # noqa: BLE001 - no answer is no firm ground, whatever the reason
            self.mark_lost(
                f"the broker does not answer on the consuming connection: {type(error).__name__}: {error}"[:300]
            )
            return False
        finally:
            self._probe_timeout = None
        self._heard_at, self._freezes = time.monotonic(), freezes
        self.consumers, self.messages = answer.consumer_count or 0, answer.message_count or 0
        return not self.is_lost()

"""Replies: events sent to the queue that a request names in `reply_to`, on connections that carry nothing else.

A `reply_to` that the broker does not accept costs its own answer and nothing else. RabbitMQ closes the connection for
some addresses (a direct reply-to address of another cluster), and all replies under way on it with it. These are
published again one at a time, so that the next closing has one possible cause.
A queue that does not answer (a quorum queue without a majority) blocks the channel of its publisher, for all addresses.
So that channel is left, and each reply on it that was not confirmed in time is published again on a separate one.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from aiormq.exceptions import DeliveryError
from pamqp.commands import Basic

from worker.policy.call_result import UnconfirmedError
from worker.rabbit.on_demand import ClosedError, OnDemandConnection

REPLY_TIMEOUT_SECONDS: Final = 5.0
REPLY_TRIES: Final = 3
REPLY_PAUSE_SECONDS: Final = 0.5
"""After a try that the broker refused, or for which no connection could be opened."""
MAX_REMEMBERED_ADDRESSES: Final = 1024
"""Of each kind."""
HARMFUL_ADDRESS_SECONDS: Final = 300.0
"""No reply is tried to an address that closed its connection at every try, for this time."""
FROZEN_ADDRESS_SECONDS: Final = 10.0
"""Nor to one that did not answer on a separate connection, for this time: short, since the broker may be at fault."""
MAX_SEPARATE_CHANNELS: Final = 8


class ReplyPublisher:
    """Publishes replies on channels that `channel` makes.

    Without `mandatory`: direct reply-to returns such a message although it delivers it.
    """

    def __init__(self, channel: Callable[[], OnDemandConnection]) -> None:
        self._make_channel = channel
        self._shared, self._isolated = channel(), channel()
        self._left: OnDemandConnection | None = None
        """The shared channel before this one, on which replies may be under way."""
        self._turn = asyncio.Lock()
        self._separate = asyncio.Semaphore(MAX_SEPARATE_CHANNELS)
        self._harmful: dict[str, float] = {}
        self._frozen: dict[str, float] = {}

    def __repr__(self) -> str:
        return (
            f"<ReplyPublisher: {self._shared!r}, {len(self._harmful)} harmful and {len(self._frozen)} frozen addresses>"
        )

    async def publish(self, body: bytes, properties: Basic.Properties, reply_to: str) -> bool:
        """Publish one reply; False if it was abandoned. Nothing raises."""
        if reply_to in self._frozen:  # it may block the shared channel again
            return await self._publish_separately(body, properties, reply_to)
        for _ in range(REPLY_TRIES):
            if self._is_avoided(reply_to):
                return False
            channel = self._shared
            try:
                await channel.publish(body, properties, reply_to, REPLY_TIMEOUT_SECONDS, mandatory=False)
            except TimeoutError:
                await self._leave(channel)
                return await self._publish_separately(body, properties, reply_to)
            except ClosedError:
                async with self._turn:
                    return await self._publish_alone(body, properties, reply_to)
            except (DeliveryError, UnconfirmedError):
                await asyncio.sleep(REPLY_PAUSE_SECONDS)
            else:
                return True
        return False

    async def aclose(self) -> None:
        """Close the connections."""
        for channel in filter(None, (self._shared, self._isolated, self._left)):
            await channel.aclose()

    async def _leave(self, channel: OnDemandConnection) -> None:
        """Share another channel from now on, unless this is done already; what is under way there goes on."""
        if channel is self._shared:
            closing, self._left, self._shared = self._left, channel, self._make_channel()
            if closing is not None:
                await closing.aclose()

    async def _publish_separately(self, body: bytes, properties: Basic.Properties, reply_to: str) -> bool:
        """Publish one reply on a separate connection, which its queue may block."""
        if self._is_avoided(reply_to):
            return False
        async with self._separate:
            if self._is_avoided(reply_to):  # found while this reply waited
                return False
            channel = self._make_channel()
            try:
                await channel.publish(body, properties, reply_to, REPLY_TIMEOUT_SECONDS, mandatory=False)
            except TimeoutError:
                _remember(self._frozen, reply_to, FROZEN_ADDRESS_SECONDS)
                return False
            except (DeliveryError, UnconfirmedError):
                return False
            finally:
                await channel.aclose()
            self._frozen.pop(reply_to, None)
            return True

    async def _publish_alone(self, body: bytes, properties: Basic.Properties, reply_to: str) -> bool:
        """Publish one reply while no other one is published on its connection."""
        if self._is_avoided(reply_to):  # found while this reply waited for its turn
            return False
        for _ in range(REPLY_TRIES):
            try:
                await self._isolated.publish(body, properties, reply_to, REPLY_TIMEOUT_SECONDS, mandatory=False)
            except ClosedError:
                continue
            except TimeoutError:
                _remember(self._frozen, reply_to, FROZEN_ADDRESS_SECONDS)
                await self._isolated.aclose()
                return False
            except (DeliveryError, UnconfirmedError):
                return False
            return True
        _remember(self._harmful, reply_to, HARMFUL_ADDRESS_SECONDS)
        return False

    def _is_avoided(self, reply_to: str) -> bool:
        return max(self._harmful.get(reply_to, 0.0), self._frozen.get(reply_to, 0.0)) > time.monotonic()


def _remember(addresses: dict[str, float], reply_to: str, seconds: float) -> None:
    addresses.pop(reply_to, None)
    if len(addresses) >= MAX_REMEMBERED_ADDRESSES:
        addresses.pop(next(iter(addresses)))
    addresses[reply_to] = time.monotonic() + seconds

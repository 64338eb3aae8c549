"""Replies: events sent to the queue that a request names in `reply_to`, on connections that carry nothing else.

A `reply_to` that the broker does not accept costs its own answer and nothing else. RabbitMQ closes the connection for
some addresses (a direct reply-to address of another cluster), and all replies under way on it with it. These are
published again one at a time, so that the next closing has one possible cause.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from aiormq.exceptions import DeliveryError
from pamqp.commands import Basic

from worker.policy.call_result import UnconfirmedError
from worker.rabbit.on_demand import ClosedError, OnDemandChannel

REPLY_TIMEOUT_SECONDS: Final = 5.0
REPLY_TRIES: Final = 3
REPLY_PAUSE_SECONDS: Final = 0.5
"""After a try that the broker refused, or for which no connection could be opened."""
MAX_HARMFUL_ADDRESSES: Final = 1024
HARMFUL_ADDRESS_SECONDS: Final = 300.0
"""No reply is tried to an address that closed its connection at every try, for this time."""


class ReplyPublisher:
    """Publishes replies on channels that `channel` makes.

    Without `mandatory`: direct reply-to returns such a message although it delivers it.
    """

    def __init__(self, channel: Callable[[], OnDemandChannel]) -> None:
        self._shared, self._isolated = channel(), channel()
        self._turn = asyncio.Lock()
        self._harmful: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<ReplyPublisher: {self._shared!r}, {len(self._harmful)} harmful addresses>"

    async def publish(self, body: bytes, properties: Basic.Properties, reply_to: str) -> bool:
        """Publish one reply; False if it was abandoned. Nothing raises."""
        for _ in range(REPLY_TRIES):
            if self._is_harmful(reply_to):
                return False
            try:
                await self._shared.publish(body, properties, reply_to, REPLY_TIMEOUT_SECONDS, mandatory=False)
            except TimeoutError:
                return False
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
        await self._shared.aclose()
        await self._isolated.aclose()

    async def _publish_alone(self, body: bytes, properties: Basic.Properties, reply_to: str) -> bool:
        """Publish one reply while no other one is published on its connection."""
        if self._is_harmful(reply_to):  # found while this reply waited for its turn
            return False
        for _ in range(REPLY_TRIES):
            try:
                await self._isolated.publish(body, properties, reply_to, REPLY_TIMEOUT_SECONDS, mandatory=False)
            except ClosedError:
                continue
            except TimeoutError:
                await self._isolated.aclose()
                return False
            except (DeliveryError, UnconfirmedError):
                return False
            return True
        if len(self._harmful) >= MAX_HARMFUL_ADDRESSES:
            self._harmful.pop(next(iter(self._harmful)))
        self._harmful[reply_to] = time.monotonic() + HARMFUL_ADDRESS_SECONDS
        return False

    def _is_harmful(self, reply_to: str) -> bool:
        return self._harmful.get(reply_to, 0.0) > time.monotonic()

"""Copies of messages, for commands: unchanged but for their headers, and each confirmed to be in a queue."""

import asyncio
from collections.abc import Mapping
from copy import copy
from typing import Final
from weakref import WeakValueDictionary

from aiormq import Channel
from aiormq.exceptions import ChannelAccessRefused, DeliveryError, PublishError
from pamqp.commands import Basic

from schemas import names
from worker.rabbit.tolerance import encodable

CONFIRM_DEADLINE: Final = 30.0
PERSISTENT: Final = 2

LOST: Final = (
    "The connection to the broker was lost: what was held is parked again, "
    "and a request that was just being moved may be in both queues, which does no harm."
)


class ParkedError(Exception):
    """The parked queue cannot be worked with, or no longer; the text is for a person."""


class Copier:
    """Publishes copies on a channel with confirms; not to be used again once one has failed."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._same_id: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"<Copier: {'closed' if self._channel.is_closed else 'open'}>"

    async def copy(self, body: bytes, properties: Basic.Properties, headers: Mapping[str, object], queue: str) -> None:
        """Put a copy with these headers at the end of `queue`. Raises ParkedError."""
        # aiormq tells returned messages apart by message_id alone, so two copies of one id never travel at once.
        lock = self._same_id.setdefault(properties.message_id or "", asyncio.Lock())
        try:
            async with asyncio.timeout(CONFIRM_DEADLINE), lock:
                await self._channel.basic_publish(
                    body, routing_key=queue, properties=_copied(properties, headers), mandatory=True, wait=False
                )
        except asyncio.CancelledError:
            # A stuck connection sets CancelledError on pending confirms, though nobody cancelled this task.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise ParkedError(LOST) from None
        except Exception as error:
            raise ParkedError(_why(error, queue)) from error


def _copied(original: Basic.Properties, headers: Mapping[str, object]) -> Basic.Properties:
    """Everything of the original but what would delete the copy, or have it refused."""
    kept = encodable(headers)
    if original.expiration:
        kept[names.EXPIRATION] = original.expiration
    if original.user_id:
        kept[names.USER_ID] = original.user_id
    properties = copy(original)
    properties.expiration = properties.user_id = None
    properties.delivery_mode = PERSISTENT
    properties.headers = kept
    return properties


def _why(error: Exception, queue: str) -> str:
    match error:
        case PublishError():
            return f"The queue {queue!r} is not there: start a worker, or `dcs-worker topology apply`."
        case DeliveryError():
            return f"The queue {queue!r} does not take any message at the moment."
        case ChannelAccessRefused():
            return f"The broker does not let this user publish to the queue {queue!r}."
        case TimeoutError():
            return f"The broker did not confirm a copy within {CONFIRM_DEADLINE:g} s: a memory or disk alarm may be on."
        case _:
            return f"{LOST} ({type(error).__name__}: {error})"[:400]

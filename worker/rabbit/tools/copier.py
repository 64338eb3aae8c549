"""Copies of messages, for commands: unchanged but for their headers, and each confirmed to be in a queue."""

from collections.abc import Mapping
from typing import Final

from aiormq import Channel
from aiormq.exceptions import ChannelAccessRefused, DeliveryError, PublishError
from pamqp.commands import Basic

from worker.rabbit.confirm_channel import ConfirmChannel
from worker.rabbit.message_copy import copy_properties

CONFIRM_DEADLINE: Final = 30.0

LOST: Final = (
    "The connection to the broker was lost: what was held is parked again, "
    "and a request that was just being moved may be in both queues, which does no harm."
)


class ParkedError(Exception):
    """The parked queue cannot be worked with, or no longer; the text is for a person."""


class Copier:
    """Publishes copies on a channel with confirms; not to be used again once one has failed."""

    def __init__(self, channel: Channel) -> None:
        self._channel = ConfirmChannel(channel, timeout_seconds=CONFIRM_DEADLINE)

    def __repr__(self) -> str:
        return f"<Copier: {'closed' if self._channel.is_closed else 'open'}>"

    async def copy(self, body: bytes, properties: Basic.Properties, headers: Mapping[str, object], queue: str) -> None:
        """Put a copy with these headers at the end of `queue`. Raises ParkedError."""
        try:
            await self._channel.publish(body, copy_properties(properties, headers), routing_key=queue, mandatory=True)
        except Exception as error:
            raise ParkedError(_why(error, queue)) from error


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

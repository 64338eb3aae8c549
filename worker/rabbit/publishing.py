"""What every publish needs: a channel with publisher confirms, and the properties of a copy of a message."""

import asyncio
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Final
from weakref import WeakValueDictionary

from aiormq import Channel
from pamqp import encode
from pamqp.commands import Basic

from schemas import names
from worker.policy.call_result import UnconfirmedError
from worker.rabbit.connection import connection_loss_as_error
from worker.rabbit.lenient_codec import HeaderTable

PERSISTENT: Final = 2
PUBLISH_TIMEOUT_SECONDS: Final = 10.0
MAX_HEADER_NAME_BYTES: Final = 128
"""pamqp cuts longer names off (AMQP 0-9-1, 4.2.5.5), and two could become one."""
MAX_HEADERS_BYTES: Final = 120_000
"""In a copy: a frame of RabbitMQ holds 131,072 by default, and other properties go with them."""
OTHER_PROPERTIES_BYTES: Final = 3_000
"""Nine short strings, at most."""
_OURS: Final = names.STATE | {
    *(names.JOURNAL, names.EXPIRATION, names.USER_ID),
    *(names.PARKED_REASON, names.PARKED_ERROR_CODE, names.PARKED_AT),
}
"""Headers that a copy never has as they came."""


class RefusedError(UnconfirmedError):
    """A queue that the message reached did not take it."""


class ConfirmChannel:
    """Publishes on `channel`, which raises on returned messages, and waits for each confirm.

    aiormq tells returned messages apart by `message_id` alone: of two that are under way with one id it would confirm
    the one that came back. So two with one id are never under way at once. A message without an id gets a random one
    from aiormq, which writes it into the properties.
    After a TimeoutError nothing is known of the message: use another channel then.
    """

    def __init__(self, channel: Channel, *, timeout_seconds: float) -> None:
        self._channel = channel
        self._timeout_seconds = timeout_seconds
        self._under_way: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def max_headers_bytes(self) -> int:
        """Most bytes of the headers of a message: the broker closes the connection for more than fit into a frame."""
        return min(MAX_HEADERS_BYTES, self._channel.max_content_size - OTHER_PROPERTIES_BYTES)

    def __repr__(self) -> str:
        return f"<ConfirmChannel: {'closed' if self._channel.is_closed else 'open'}>"

    async def publish(
        self,
        body: bytes,
        properties: Basic.Properties,
        *,
        exchange: str = "",
        routing_key: str,
        mandatory: bool = False,
    ) -> None:
        """Publish one message and wait until the broker has it safely.

        Raises PublishError for a mandatory message that no queue takes, DeliveryError for one that a queue refuses,
        TimeoutError without a confirm in time, ConnectionLostError, and what else aiormq raises.
        """
        with connection_loss_as_error():
            async with asyncio.timeout(self._timeout_seconds), self._alone(properties.message_id):
                await self._channel.basic_publish(
                    body,
                    exchange=exchange,
                    routing_key=routing_key,
                    properties=properties,
                    mandatory=mandatory,
                    wait=False,
                )

    def _alone(self, message_id: str | None) -> asyncio.Lock | nullcontext[None]:
        return self._under_way.setdefault(message_id, asyncio.Lock()) if message_id else nullcontext()


def copy_properties(
    original: Basic.Properties, headers: Mapping[str, object], *, max_headers_bytes: int = MAX_HEADERS_BYTES
) -> Basic.Properties:
    """The properties of a copy that carries `headers` in place of the original's.

    All but two are the original's: `expiration` would delete a parked request, and the broker refuses a `user_id` that
    is not the publisher's. Both are kept as headers.
    """
    kept = HeaderTable(encodable(headers, max_headers_bytes, as_came := _as_came(original.headers, headers)))
    kept.as_came = as_came
    if original.expiration:
        kept[names.EXPIRATION] = original.expiration
    if original.user_id:
        kept[names.USER_ID] = original.user_id
    return Basic.Properties(
        content_type=original.content_type,
        content_encoding=original.content_encoding,
        headers=kept,
        delivery_mode=PERSISTENT,
        priority=original.priority,
        correlation_id=original.correlation_id,
        reply_to=original.reply_to,
        message_id=original.message_id,
        timestamp=original.timestamp,
        message_type=original.message_type,
        app_id=original.app_id,
    )


def _as_came(original: object, headers: Mapping[str, object]) -> dict[str, bytes]:
    """The bytes of those of `headers` that are the original's, unchanged."""
    if not isinstance(original, HeaderTable):
        return {}
    kept = {name for name, value in headers.items() if name in original and value is original[name]} - _OURS
    return {name: entry for name, entry in original.entries().items() if name in kept}


def encodable(
    headers: Mapping[str, object], max_bytes: int = MAX_HEADERS_BYTES, as_came: Mapping[str, bytes] | None = None
) -> dict[str, Any]:
    """The headers that a copy can carry; `as_came`: the bytes of those that are written as they came.

    Left out are others that cannot be written (1e300, names that are too long), and the largest of the sender's once
    all together would no longer fit into one frame: the broker would close the connection.
    """
    sizes = {name: len(entry) for name, entry in (as_came or {}).items()}
    others = ((name, _size(name, value)) for name, value in headers.items() if name not in sizes)
    sizes |= {name: size for name, size in others if size is not None}
    total = sum(sizes.values())
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if total <= max_bytes:
            break
        if name not in names.STATE:
            total -= sizes.pop(name)
    return {name: headers[name] for name in headers if name in sizes}


def _size(name: str, value: object) -> int | None:
    try:
        if len(name.encode()) > MAX_HEADER_NAME_BYTES:
            return None
        return len(encode.field_table({name: value}))  # type: ignore[dict-item]  # that is the question
    except Exception:  # noqa: BLE001 - anything that the encoder cannot take
        return None

"""Properties and headers of a copy of a message.

A copy carries all properties of its original but two: `expiration` would delete a parked request, and the broker
refuses a `user_id` that is not the publisher's. Both are kept as headers.
"""

from collections.abc import Mapping
from typing import Any, Final

from pamqp import encode
from pamqp.commands import Basic

from schemas import names

PERSISTENT: Final = 2
LONGEST_NAME: Final = 128
"""Bytes of a header's name: pamqp cuts longer ones off (AMQP 0-9-1, 4.2.5.5), and two could become one."""
LARGEST: Final = 120_000
"""Bytes of headers in a copy: a frame of RabbitMQ holds 131,072, and other properties go with them."""


def copy_properties(original: Basic.Properties, headers: Mapping[str, object]) -> Basic.Properties:
    """The properties of a copy that carries `headers` in place of the original's."""
    kept = encodable(headers)
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


def encodable(headers: Mapping[str, object]) -> dict[str, Any]:
    """The headers that a copy can carry.

    Left out are those that were read but cannot be written again (1e300, text that is no UTF-8, names that are too
    long), and the largest of the sender's once all together would no longer fit into one frame: the broker would close
    the connection.
    """
    sizes = {name: size for name, value in headers.items() if (size := _size(name, value)) is not None}
    total = sum(sizes.values())
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if total <= LARGEST:
            break
        if name not in names.STATE:
            total -= sizes.pop(name)
    return {name: headers[name] for name in headers if name in sizes}


def _size(name: str, value: object) -> int | None:
    try:
        if len(name.encode()) > LONGEST_NAME:
            return None
        return len(encode.field_table({name: value}))  # type: ignore[dict-item]  # that is the question
    except Exception:  # noqa: BLE001 - anything that the encoder cannot take
        return None

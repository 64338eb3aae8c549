"""One message of the parked queue, as long as it is held."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from schemas import names

RENEWED_AT: Final = 10
"""Returns after which a message is renewed: half of what RabbitMQ 4.0 lets pass, the rest is for killed processes."""


@dataclass(frozen=True, slots=True)
class ParkedMessage:
    """Body, properties, and what to take it away by."""

    body: bytes
    properties: Basic.Properties
    tag: int
    is_worn: bool
    """It was returned so often that it must be renewed."""

    @classmethod
    def of(cls, message: DeliveredMessage) -> Self:
        """The message as it was delivered."""
        assert message.delivery_tag is not None
        properties = message.header.properties
        # Without the flag the count is the sender's word.
        count = (properties.headers or {}).get(names.DELIVERY_COUNT) if message.redelivered else 0
        return cls(message.body, properties, message.delivery_tag, isinstance(count, int) and count >= RENEWED_AT)

    @classmethod
    def told(cls, body: bytes, headers: Mapping[str, object], message_id: str | None) -> Self:
        """A message that is not held, but told of."""
        properties = Basic.Properties(headers=dict(headers), message_id=message_id)  # type: ignore[arg-type]
        return cls(body, properties, tag=0, is_worn=False)

    @property
    def headers(self) -> Mapping[str, object]:
        """Message headers; empty if there are none."""
        return self.properties.headers or {}

    @property
    def attributes(self) -> dict[str, object]:
        """The other properties that are set, by name."""
        given = ((name, getattr(self.properties, name)) for name in self.properties.attributes() if name != "headers")
        return {name: value for name, value in given if value not in (None, "")}

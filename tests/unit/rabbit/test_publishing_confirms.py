"""Publishing with confirms: one message per id at a time, and an error for everything that is no confirm."""

import asyncio
from typing import Any

import pytest
from pamqp.commands import Basic

from worker.rabbit.connection import ConnectionLostError
from worker.rabbit.publishing import ConfirmChannel


class Channel:
    """aiormq's channel, as far as publishing goes: what is under way waits until it is confirmed here."""

    is_closed = False

    def __init__(self) -> None:
        self.under_way: list[tuple[str | None, asyncio.Future[None]]] = []
        self.most: dict[str | None, int] = {}

    async def basic_publish(self, body: bytes, *, properties: Basic.Properties, **_: Any) -> None:
        """Wait for the confirm."""
        confirm: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (properties.message_id, confirm)
        self.under_way.append(entry)
        of_this_id = [name for name, _ in self.under_way].count(properties.message_id)
        self.most[properties.message_id] = max(self.most.get(properties.message_id, 0), of_this_id)
        try:
            await confirm
        finally:
            self.under_way.remove(entry)


def confirming(channel: Channel, timeout_seconds: float = 5.0) -> ConfirmChannel:
    """Publishing over the channel."""
    return ConfirmChannel(channel, timeout_seconds=timeout_seconds)  # type: ignore[arg-type]


async def test_two_messages_with_one_id_are_never_under_way_at_once() -> None:
    """Those with other ids, and those without any, do not wait for each other."""
    channel = Channel()
    publisher = confirming(channel)
    ids = ["a", "a", "b", None, "a", None, "b"]
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        for message_id in ids:
            tasks.create_task(publisher.publish(b"", Basic.Properties(message_id=message_id), routing_key="k"))
        for _ in ids:
            while not channel.under_way:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            channel.under_way[0][1].set_result(None)
            await asyncio.sleep(0)
    assert channel.most == {"a": 1, "b": 1, None: 2}


async def test_no_confirm_in_time_is_an_error_also_for_those_that_wait_for_it() -> None:
    """The deadline covers the wait for another message with the same id."""
    publisher = confirming(Channel(), 0.01)
    properties = Basic.Properties(message_id="a")
    publishes = (publisher.publish(b"", properties, routing_key="k") for _ in range(2))
    found = await asyncio.gather(*publishes, return_exceptions=True)
    assert [type(error) for error in found] == [TimeoutError, TimeoutError]


async def test_stuck_connection_is_an_error_and_no_cancellation() -> None:
    """aiormq sets CancelledError on what waits."""
    channel = Channel()
    task = asyncio.create_task(confirming(channel).publish(b"", Basic.Properties(), routing_key="k"))
    await asyncio.sleep(0)
    channel.under_way[0][1].set_exception(asyncio.CancelledError())
    with pytest.raises(ConnectionLostError):
        await task

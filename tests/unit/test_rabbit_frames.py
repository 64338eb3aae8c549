"""Frames that are read and written here are those of the general decoder and encoder."""

import asyncio
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

import pytest
from aiormq.exceptions import AMQPConnectionError
from hypothesis import given
from hypothesis import strategies as st
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.exceptions import UnmarshalingException
from pamqp.header import ContentHeader

from worker.rabbit import tolerance
from worker.rabbit.frames import Receiver
from worker.rabbit.inlet import Inlet
from worker.rabbit.outlet import Confirmed, Outlet

tolerance.install()
SHORT = st.text(max_size=60)
TAG = st.integers(1, 2**63 - 1)
NAME = st.text("abc.-_", max_size=60)
DELIVERED = st.builds(Basic.Deliver, SHORT, TAG, st.booleans(), NAME, SHORT)
TABLE = st.dictionaries(SHORT, st.one_of(SHORT, st.integers(-(2**31), 2**31), st.booleans(), st.none()), max_size=3)
PROPERTIES = st.builds(
    Basic.Properties,
    **{name: st.none() | SHORT for name in Basic.Properties.flags if name != "cluster_id"}
    | {"headers": st.none() | TABLE, "delivery_mode": st.sampled_from((None, 1, 2)), "priority": st.integers(0, 9)}
    | {"timestamp": st.none() | st.integers(0, 2**33).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))},
)
HEADER = st.builds(lambda size, properties: ContentHeader(0, size, properties), st.integers(0, 2**40), PROPERTIES)
BODY = st.binary(min_size=1).map(ContentBody)
FRAMES = st.one_of(DELIVERED, st.builds(Basic.Ack, TAG, st.booleans()), HEADER, BODY)


def parts(one: Any) -> tuple[type, Any]:
    """What tells two frames apart."""
    if isinstance(one, ContentHeader):
        return ContentHeader, (one.class_id, one.weight, one.body_size, dict(one.properties))
    return type(one), one.value if isinstance(one, ContentBody) else dict(one)


def receiver(content: bytes) -> Receiver:
    """A receiver of a connection that brought this, and was closed then."""
    reader = asyncio.StreamReader()
    reader.feed_data(content)
    reader.feed_eof()
    made = Receiver(reader)
    made.started = True
    return made


@given(st.lists(FRAMES, min_size=1, max_size=5), st.integers(0, 2**16 - 1))
async def test_frames_are_read_as_the_general_decoder_reads_them(sent: list[Any], channel: int) -> None:
    """Several frames that come in one piece: each is itself, and the end of the connection is an error."""
    content = [frame.marshal(one, channel) for one in sent]
    made = receiver(b"".join(content))
    for one in content:
        size, number, found = await made.get_frame()
        expected_size, expected_number, expected = frame.unmarshal(one)
        assert (size, number, parts(found)) == (expected_size, expected_number, parts(expected))
    with pytest.raises(AMQPConnectionError):
        await made.get_frame()


async def test_a_frame_may_come_in_pieces() -> None:
    """A frame is read when its last byte has come."""
    reader = asyncio.StreamReader()
    made = Receiver(reader)
    made.started = True
    content = frame.marshal(ContentBody(b"x" * 100), 7)
    reading = asyncio.ensure_future(made.get_frame())
    for byte in content[:-1]:
        reader.feed_data(bytes((byte,)))
        await asyncio.sleep(0)
    assert not reading.done()
    reader.feed_data(content[-1:])
    assert (await reading)[2].value == b"x" * 100


class FakeChannel:
    """What is used of aiormq's channel."""

    def __init__(self) -> None:
        self.number, self.max_content_size, self.delivery_tag = 3, 10, 0
        self.frames: Any = asyncio.Queue()
        self.write_queue: asyncio.Queue[Any] = asyncio.Queue()
        self.confirmations: OrderedDict[int, asyncio.Future[Any]] = OrderedDict()
        self.confirmed: list[int] = []
        self.loop = asyncio.get_running_loop()
        self.lock = asyncio.Lock()

    def _confirm_delivery(self, tag: int, _: Any) -> None:
        if self.confirmations.pop(tag, None) is not None:
            self.confirmed.append(tag)


def written(channel: FakeChannel) -> list[Any]:
    """The frames in the one piece that was written."""
    content, found = channel.write_queue.get_nowait().payload, []
    assert channel.write_queue.empty()
    while content:
        size, number, one = frame.unmarshal(content)
        assert number == channel.number
        found.append(one)
        content = content[size:]
    return found


async def test_acknowledgements_go_out_in_one_piece() -> None:
    """All those of one turn, each with its tag."""
    channel = FakeChannel()
    outlet = Outlet(channel)  # type: ignore[arg-type]
    for tag in (5, 2**40):
        outlet.ack(tag)
    await outlet.flush()
    assert [parts(one) for one in written(channel)] == [parts(Basic.Ack(5)), parts(Basic.Ack(2**40))]


async def test_a_message_is_counted_when_it_is_written() -> None:
    """Tags follow the order of the wire, and whoever gave up before is not sent; a large body is cut."""
    channel = FakeChannel()
    out = Confirmed(channel, 5.0)  # type: ignore[arg-type]
    given_up, kept = (out.publish("e", "k", Basic.Properties(message_id="m"), b"0123456789abc") for _ in range(2))
    given_up.cancel()
    writing = asyncio.create_task(out.run())
    while channel.write_queue.empty():
        await asyncio.sleep(0)
    writing.cancel()
    publish, header, *bodies = written(channel)
    assert (publish.exchange, publish.routing_key, header.body_size) == ("e", "k", 13)
    assert [body.value for body in bodies] == [b"0123456789", b"abc"]
    assert channel.confirmations == {1: kept}


async def test_what_waits_for_a_confirm_ends_with_the_deadline_or_the_channel() -> None:
    """Nobody waits without an end."""
    channel = FakeChannel()
    for deadline, error in ((-1.0, TimeoutError), (60.0, ConnectionError)):
        out = Confirmed(channel, deadline)  # type: ignore[arg-type]
        confirm = out.publish("e", "k", Basic.Properties(), b"")
        out.expire()
        assert confirm.done() == (deadline < 0)
        out.close()
        with pytest.raises(error):
            await confirm


async def test_a_delivery_is_taken_as_its_last_frame_comes() -> None:
    """Nothing of it waits in the queue; what nobody here knows does, and is not overtaken."""
    channel, taken = FakeChannel(), []
    inlet, others = Inlet(channel), channel.frames._others  # type: ignore[arg-type]
    inlet.takers["c"] = lambda *of: taken.append((of[0].delivery_tag, of[2]))
    for one in (Basic.Deliver("c", 9), ContentHeader(body_size=4), ContentBody(b"ab"), ContentBody(b"cd")):
        assert not taken
        await channel.frames.put((0, one))
    await channel.frames.put((0, Basic.Deliver("c", 10)))
    await channel.frames.put((0, ContentHeader(body_size=0)))
    assert taken == [(9, b"abcd"), (10, b"")]
    assert others.empty()


async def test_deliveries_overtake_what_waits() -> None:
    """Else all that come in one piece with the start of a consumer would go the slow way, and all behind them."""
    channel, taken = FakeChannel(), []
    inlet, others = Inlet(channel), channel.frames._others  # type: ignore[arg-type]
    inlet.takers["c"] = lambda *of: taken.append(of[0].delivery_tag)
    foreign = (Basic.ConsumeOk("c"), Basic.Deliver("other", 1), ContentHeader(body_size=1), ContentBody(b"a"))
    for one in foreign:
        await channel.frames.put((0, one))
    for one in (Basic.Deliver("c", 9), ContentHeader(body_size=1), ContentBody(b"b")):
        await channel.frames.put((0, one))
    assert taken == [9]
    assert [others.get_nowait()[1] for _ in foreign] == list(foreign)


async def test_a_confirm_does_not_overtake_the_return_of_its_message() -> None:
    """Basic.Return comes before the acknowledgement: confirmed first, a message that came back would count as sent."""
    channel = FakeChannel()
    Inlet(channel)  # type: ignore[arg-type]
    channel.confirmations.update({tag: channel.loop.create_future() for tag in (1, 2, 3, 4)})
    await channel.frames.put((0, Basic.Ack(2, True)))
    assert channel.confirmed == [1, 2]
    await channel.frames.put((0, Basic.Return()))
    await channel.frames.put((0, Basic.Ack(3)))
    assert channel.confirmed == [1, 2]
    for expected in (Basic.Return, Basic.Ack):
        assert isinstance((await channel.frames.get())[1], expected)
    await channel.frames.put((0, Basic.Nack(4)))
    assert channel.confirmed == [1, 2, 4]


@pytest.mark.parametrize("cut", range(1, 16))
async def test_a_header_that_makes_no_sense_is_left_to_the_general_decoder(cut: int) -> None:
    """With its exceptions: cut short, or with more flags than there are."""
    whole = frame.marshal(ContentHeader(0, 5, Basic.Properties(message_id="m")), 3)
    payload = whole[7:-1][:-cut]
    for one in (payload, payload[:12] + b"\xff\xff" + payload[14:]):
        content = whole[:3] + len(one).to_bytes(4) + one + whole[-1:]
        endings = []
        for read in (receiver(content).get_frame, lambda content=content: general(content)):
            try:
                endings.append(str(parts((await read())[2])))
            except Exception as error:  # noqa: BLE001 - which one is the question
                endings.append(type(error).__name__)
        assert endings[0] == endings[1] or "InvalidFrameError" in endings


async def general(content: bytes) -> tuple[int, int, Any]:
    """What the general decoder reads."""
    return frame.unmarshal(content)


async def test_a_frame_without_its_end_is_refused() -> None:
    """As the general decoder does."""
    content = frame.marshal(ContentBody(b"x"), 1)
    with pytest.raises(UnmarshalingException):
        frame.unmarshal(content[:-1] + b"x")
    with pytest.raises(Exception, match="Last byte error"):
        await receiver(content[:-1] + b"x").get_frame()

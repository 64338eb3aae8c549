"""The finder of intrusions: private names and changes of libraries are found, own and documented ones pass."""

import pytest

from tests.unit.library_intrusions import intrusions


@pytest.mark.parametrize(
    ("source", "breach"),
    [
        ("from aiormq import _channel", "imports aiormq._channel"),
        ("import aiormq._channel", "imports aiormq._channel"),
        ("from aiormq._channel import Channel", "imports aiormq._channel.Channel"),
        ("def late():\n    from redis._parsers import Encoder", "imports redis._parsers.Encoder"),
        ("from asyncio import _set_running_loop", "imports asyncio._set_running_loop"),
        ("import asyncio\nasyncio._set_running_loop(None)", "touches asyncio._set_running_loop"),
        ("import aiormq\naiormq.FrameReceiver = object", "changes aiormq.FrameReceiver"),
        ("import prometheus_client\nprometheus_client.Counter = object", "changes prometheus_client.Counter"),
        ("import prometheus_client.core as p\np.Metric = object", "changes p.Metric"),
        ("from aiormq import connection\nconnection.FrameReceiver = object", "changes connection.FrameReceiver"),
        ("from aiormq import Channel\nChannel.rpc = None", "changes Channel.rpc"),
        ("from aiormq import Channel\ndel Channel.rpc", "changes Channel.rpc"),
        ("import aiormq\naiormq.connection.FrameReceiver = object", "changes aiormq.connection.FrameReceiver"),
        ("import aiormq\nsetattr(aiormq, 'Channel', 1)", "touches setattr(aiormq, 'Channel', 1)"),
        ("def f(channel):\n    return channel._confirm", "touches channel._confirm"),
        ("def f(channel):\n    return getattr(channel, '_confirm')", "touches getattr(channel, '_confirm')"),
        ("from aiormq import Channel\ndef f(c: Channel):\n    c.frames = 1", "changes c.frames"),
        ("import aiormq\ndef f(c: 'aiormq.Channel | None'):\n    c.frames = 1", "changes c.frames"),
        ("from aiormq import Channel\nasync def f():\n    c = await Channel()\n    c.frames = 1", "changes c.frames"),
        ("from aiormq import Channel\ndef f(c: Channel):\n    c.delivery_tag += 1", "changes c.delivery_tag"),
        (
            "from aiormq import Channel\nclass A:\n    def __init__(self, c: Channel):\n        self.c = c\n"
            "    def f(self):\n        self.c.frames = 1",
            "changes self.c.frames",
        ),
        ("class A:\n    def f(self):\n        return self.b._c", "touches self.b._c"),
        ("class A:\n    def f(self):\n        return self.b()._c", "touches self.b()._c"),
        ("from redis import Redis\nclass A(Redis):\n    def f(self):\n        return self._x", "touches self._x"),
        ("from redis import Redis\nclass A(Redis):\n    def f(self):\n        super()._x()", "touches super()._x"),
        (
            "from aiohttp import web\nclass A(web.BaseRequest):\n    async def _prepare_hook(self, response): ...",
            "overrides aiohttp.web.BaseRequest._prepare_hook",
        ),
        (
            "import asyncio\nclass A(asyncio.TimerHandle):\n    def __init__(self):\n        self._when = 0",
            "overrides asyncio.TimerHandle._when",
        ),
    ],
)
def test_an_intrusion_is_found(source: str, breach: str) -> None:
    """Each kind of intrusion is found where it stands, and named."""
    assert breach in intrusions(source)


@pytest.mark.parametrize(
    "source",
    [
        "from __future__ import annotations\nimport aiormq\naiormq.__version__",
        "import os\nos._exit(1)",
        "from urllib.parse import urlsplit\nurlsplit('')._replace(query='')",
        "from pydantic import Secret\nclass A(Secret[str]):\n    def _display(self):\n        return '*'",
        "for _ in range(3):\n    print(_)",
        "class A:\n    def f(self):\n        self._x = 1\n        return self._x",
        "class A:\n    @classmethod\n    def f(cls):\n        return cls._x",
        "class A:\n    _x = 1\nA._x",
        "class A:\n    def f(self, other: 'A'):\n        return other._x",
        "from typing import Self\nclass A:\n    def f(self, other: Self):\n        return other._x",
        "class A:\n    def f(self):\n        return type(self)._x",
        "class B: ...\nclass A:\n    def __init__(self):\n        self.b = B()\n    def f(self):\n        self.b._x()",
        "class A: ...\ndef f():\n    a = A()\n    return a._x",
        "class A: ...\ndef make() -> A: ...\ndef f():\n    a = make()\n    a._x = 1",
        "from worker.pipeline.closing import Closing\nclass A(Closing):\n    def f(self):\n        self._sleepers",
        "from aiormq import Channel\nclass A(Channel):\n    def f(self):\n        self._y = 1\n        self._y += 1",
        "from aiormq import Channel\nclass A:\n    def __init__(self, c: Channel):\n        self.channel = c",
        "from pamqp import decode\ndecode.TABLE_MAPPING[b'x'] = None",
        "import enum\nclass A(enum.Enum):\n    @classmethod\n    def _missing_(cls, value): ...",
        "def f(message):\n    message.headers = {}",
    ],
)
def test_what_is_no_intrusion_passes(source: str) -> None:
    """Own privates, documented names, public tables, and attributes of what is known not to be a library's."""
    assert intrusions(source) == set()

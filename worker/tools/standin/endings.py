"""How a call ends: the answer, or what comes in its place."""

import json
import socket
import struct
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from aiohttp import web

from worker.tools.standin.quota import throttled_text
from worker.tools.standin.record import Call
from worker.tools.standin.refusal import Refusal
from worker.tools.standin.settings import Operation, Quota
from worker.tools.standin.stage import NoAnswer, Stage
from worker.tools.standin.steps import Ending, Step

LONGEST_HANG = 600.0
_HANG_LOOKS = 0.1
_PADDING = "x" * (2 * 1024 * 1024)
_NO_LINGER = struct.pack("ii", 1, 0)
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Exchange:
    """One call and the body that it would be answered with."""

    stage: Stage
    request: web.Request
    headers: Mapping[str, str]
    body: Mapping[str, Any]


async def end(exchange: Exchange, step: Step) -> web.StreamResponse:
    """End a call as its step says; raises Refusal for an error."""
    return await _ENDINGS[step.ending](exchange, step)


async def play(
    stage: Stage, operation: Operation, request: web.Request, call: Call, answer: Callable[[], web.Response]
) -> web.StreamResponse:
    """Answer a call that creates no task, unless the operation's next step is something else."""
    step = stage.faults.of_call(stage.settings, operation)
    call.step = step.text
    if step.ending != "answer":
        return await end(Exchange(stage, request, stage.headers(call), {}), step)
    if step.seconds:
        await stage.pause(step.seconds)
    return answer()


async def _answer(exchange: Exchange, step: Step) -> web.StreamResponse:
    if step.seconds:
        await exchange.stage.pause(step.seconds)
    return web.json_response(exchange.body)


async def _drop(exchange: Exchange, _: Step) -> web.StreamResponse:
    transport = exchange.request.transport
    if transport is not None:
        # Without lingering the kernel sends a reset; a plain close would be an orderly end.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        transport.abort()
    return NoAnswer()


async def _close(exchange: Exchange, _: Step) -> web.StreamResponse:
    if exchange.request.transport is not None:
        exchange.request.transport.close()
    return NoAnswer()


async def _hang(exchange: Exchange, step: Step) -> web.StreamResponse:
    # A caller that gave up is noticed by looking: the framework does not tell.
    clock = get_running_loop().time
    until = clock() + LONGEST_HANG
    stopping = exchange.stage.stopping
    while clock() < until and not stopping.is_set() and exchange.request.transport is not None:
        await exchange.stage.pause(_HANG_LOOKS)
    return await _drop(exchange, step)


async def _html(_: Exchange, __: Step) -> web.StreamResponse:
    return web.Response(text="<html><body><h1>It works!</h1></body></html>", content_type="text/html")


async def _no_id(_: Exchange, __: Step) -> web.StreamResponse:
    return web.json_response({})


async def _cut(exchange: Exchange, step: Step) -> web.StreamResponse:
    body = json.dumps(exchange.body).encode()
    response = web.StreamResponse(headers={**exchange.headers, **_JSON, "Content-Length": str(len(body))})
    await response.prepare(exchange.request)
    await response.write(body[: len(body) // 2])
    await _close(exchange, step)
    return response


async def _oversize(exchange: Exchange, _: Step) -> web.StreamResponse:
    return web.json_response({**exchange.body, "padding": _PADDING})


async def _redirect(exchange: Exchange, _: Step) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": f"{exchange.stage.url}/moved"})


async def _error(exchange: Exchange, step: Step) -> web.StreamResponse:
    text = None
    if step.status == 429:
        quota = Quota.read(step.window)
        text = throttled_text(quota.limit, quota.time, quota.unit)
    raise Refusal(step.status, step.code, text, _retry(exchange, step))


async def _reply(exchange: Exchange, step: Step) -> web.StreamResponse:
    headers = {**_JSON, **_retry(exchange, step)}
    return web.Response(status=step.status, body=step.body.encode(), headers=headers)


def _retry(exchange: Exchange, step: Step) -> dict[str, str]:
    if step.retry is None:
        return {}
    form, seconds = step.retry
    if form == "after":
        return {"Retry-After": str(seconds)}
    return {"Retry-After": formatdate(exchange.stage.now() + seconds, usegmt=True)}


_ENDINGS: dict[Ending, Callable[[Exchange, Step], Awaitable[web.StreamResponse]]] = {
    "answer": _answer,
    "late": _hang,
    "drop": _drop,
    "close": _close,
    "hang": _hang,
    "html": _html,
    "no id": _no_id,
    "cut": _cut,
    "oversize": _oversize,
    "redirect": _redirect,
    "error": _error,
    "reply": _reply,
}

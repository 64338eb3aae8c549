"""Responses of the fake DCS: the answer, or the fault that replaces it."""

import json
import socket
import struct
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate

from aiohttp import web

from worker.tools.fake_dcs.faults import ERROR_CODES, ErrorResponse, FaultStep
from worker.tools.fake_dcs.settings import Quota
from worker.tools.fake_dcs.state import ConnectionClosed, ServerState

MAX_HANG_SECONDS = 600.0
HANG_POLL_SECONDS = 0.1
PADDING_CHARACTERS = 2 * 1024 * 1024
JSON_HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class PendingResponse:
    """One call and the headers of any response; `answer` makes the answer, if no fault replaces it."""

    state: ServerState
    request: web.Request
    headers: Mapping[str, str]
    answer: Callable[[], web.Response]


async def respond(pending: PendingResponse, step: FaultStep) -> web.StreamResponse:
    """Answer a call as its step says. Raises ErrorResponse for an error."""
    return await _RESPONDERS[step.kind](pending, step)


async def _answer(pending: PendingResponse, step: FaultStep) -> web.StreamResponse:
    if step.seconds:
        await pending.state.pause(step.seconds)
    return pending.answer()


async def _drop(pending: PendingResponse, _: FaultStep) -> web.StreamResponse:
    transport = pending.request.transport
    if transport is not None:
        # With linger time 0 the kernel sends a reset; without it an orderly FIN.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return ConnectionClosed()


async def _close(pending: PendingResponse, _: FaultStep) -> web.StreamResponse:
    if pending.request.transport is not None:
        pending.request.transport.close()
    return ConnectionClosed()


async def _hang(pending: PendingResponse, step: FaultStep) -> web.StreamResponse:
    # The framework does not report that a caller has gone: it is polled.
    clock = get_running_loop().time
    deadline = clock() + MAX_HANG_SECONDS
    stopping = pending.state.stopping
    while clock() < deadline and not stopping.is_set() and pending.request.transport is not None:
        await pending.state.pause(HANG_POLL_SECONDS)
    return await _drop(pending, step)


async def _html(_: PendingResponse, __: FaultStep) -> web.StreamResponse:
    return web.Response(text="<html><body><h1>It works!</h1></body></html>", content_type="text/html")


async def _no_id(_: PendingResponse, __: FaultStep) -> web.StreamResponse:
    return web.json_response({})


async def _cut(pending: PendingResponse, step: FaultStep) -> web.StreamResponse:
    body = (pending.answer().text or "").encode()
    response = web.StreamResponse(headers={**pending.headers, **JSON_HEADERS, "Content-Length": str(len(body))})
    await response.prepare(pending.request)
    await response.write(body[: len(body) // 2])
    await _close(pending, step)
    return response


async def _oversize(pending: PendingResponse, _: FaultStep) -> web.StreamResponse:
    return web.json_response({**json.loads(pending.answer().text or "{}"), "padding": "x" * PADDING_CHARACTERS})


async def _redirect(pending: PendingResponse, _: FaultStep) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": f"{pending.state.url}/moved"})


async def _error(pending: PendingResponse, step: FaultStep) -> web.StreamResponse:
    text = Quota.read(step.window).error_text if step.status == 429 else None
    code = step.code or ERROR_CODES.get(step.status, "DCS.5000")
    raise ErrorResponse(step.status, code, text, _retry_headers(pending, step))


async def _reply(pending: PendingResponse, step: FaultStep) -> web.StreamResponse:
    headers = {**JSON_HEADERS, **_retry_headers(pending, step)}
    return web.Response(status=step.status, body=step.body.encode(), headers=headers)


def _retry_headers(pending: PendingResponse, step: FaultStep) -> dict[str, str]:
    if step.retry_form == "after":
        return {"Retry-After": str(step.retry_seconds)}
    if step.retry_form == "at":
        return {"Retry-After": formatdate(pending.state.now() + step.retry_seconds, usegmt=True)}
    return {}


_RESPONDERS: dict[str, Callable[[PendingResponse, FaultStep], Awaitable[web.StreamResponse]]] = {
    "ok": _answer,
    "slow": _answer,
    "create late": _hang,
    "drop": _drop,
    "close": _close,
    "hang": _hang,
    "html": _html,
    "no id": _no_id,
    "cut": _cut,
    "oversize": _oversize,
    "redirect": _redirect,
    "throttle": _error,
    "error": _error,
    "reply": _reply,
}

"""Responses of the fake DCS: the answer, or the fault that replaces it."""

import json
import socket
import struct
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from aiohttp import web

from worker.tools.fake_dcs.call_log import CallRecord
from worker.tools.fake_dcs.error_responses import ErrorResponse
from worker.tools.fake_dcs.fault_selection import throttled_text
from worker.tools.fake_dcs.fault_steps import FaultStep, ResponseKind
from worker.tools.fake_dcs.settings import Operation, Quota
from worker.tools.fake_dcs.state import ConnectionClosed, ServerState

MAX_HANG_SECONDS = 600.0
_HANG_POLL_SECONDS = 0.1
_PADDING = "x" * (2 * 1024 * 1024)
_NO_LINGER = struct.pack("ii", 1, 0)
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class PendingResponse:
    """One call, and the body of its answer if no fault replaces it."""

    state: ServerState
    request: web.Request
    headers: Mapping[str, str]
    body: Mapping[str, Any]


async def respond(pending: PendingResponse, step: FaultStep) -> web.StreamResponse:
    """Answer a call as its step says; raises ErrorResponse for an error."""
    return await _RESPONDERS[step.response_kind](pending, step)


async def answer_call(
    state: ServerState, operation: Operation, request: web.Request, call: CallRecord, answer: Callable[[], web.Response]
) -> web.StreamResponse:
    """Answer a call that creates no task, as the next step of its operation says."""
    step = state.faults.step_for_call(state.settings, operation)
    call.step = step.text
    if step.response_kind != "answer":
        return await respond(PendingResponse(state, request, state.headers(call), {}), step)
    if step.seconds:
        await state.pause(step.seconds)
    return answer()


async def _answer(pending: PendingResponse, step: FaultStep) -> web.StreamResponse:
    if step.seconds:
        await pending.state.pause(step.seconds)
    return web.json_response(pending.body)


async def _drop(pending: PendingResponse, _: FaultStep) -> web.StreamResponse:
    transport = pending.request.transport
    if transport is not None:
        # With linger time 0 the kernel sends a reset; without it an orderly FIN.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
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
        await pending.state.pause(_HANG_POLL_SECONDS)
    return await _drop(pending, step)


async def _html(_: PendingResponse, __: FaultStep) -> web.StreamResponse:
    return web.Response(text="<html><body><h1>It works!</h1></body></html>", content_type="text/html")


async def _no_id(_: PendingResponse, __: FaultStep) -> web.StreamResponse:
    return web.json_response({})


async def _cut(pending: PendingResponse, step: FaultStep) -> web.StreamResponse:
    body = json.dumps(pending.body).encode()
    response = web.StreamResponse(headers={**pending.headers, **_JSON, "Content-Length": str(len(body))})
    await response.prepare(pending.request)
    await response.write(body[: len(body) // 2])
    await _close(pending, step)
    return response


async def _oversize(pending: PendingResponse, _: FaultStep) -> web.StreamResponse:
    return web.json_response({**pending.body, "padding": _PADDING})


async def _redirect(pending: PendingResponse, _: FaultStep) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": f"{pending.state.url}/moved"})


async def _error(pending: PendingResponse, step: FaultStep) -> web.StreamResponse:
    text = None
    if step.status == 429:
        quota = Quota.read(step.window)
        text = throttled_text(quota.limit, quota.time, quota.unit)
    raise ErrorResponse(step.status, step.code, text, _retry_headers(pending, step))


async def _reply(pending: PendingResponse, step: FaultStep) -> web.StreamResponse:
    headers = {**_JSON, **_retry_headers(pending, step)}
    return web.Response(status=step.status, body=step.body.encode(), headers=headers)


def _retry_headers(pending: PendingResponse, step: FaultStep) -> dict[str, str]:
    if step.retry is None:
        return {}
    form, seconds = step.retry
    if form == "after":
        return {"Retry-After": str(seconds)}
    return {"Retry-After": formatdate(pending.state.now() + seconds, usegmt=True)}


_RESPONDERS: dict[ResponseKind, Callable[[PendingResponse, FaultStep], Awaitable[web.StreamResponse]]] = {
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

"""Responses of the fake DCS: the answer, or the fault that replaces it."""

import json
import socket
import struct
from asyncio import get_running_loop
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate

from aiohttp import web

from worker.tools.fake_dcs.faults import ERROR_CODES, ErrorResponse, FaultStep
from worker.tools.fake_dcs.named_faults import ACCESS_KEY, REQUEST_ID
from worker.tools.fake_dcs.settings import Quota
from worker.tools.fake_dcs.state import CallRecord, ConnectionClosed, ServerState

MAX_HANG_SECONDS = 600.0
HANG_POLL_SECONDS = 0.1
PADDING_CHARACTERS = 2 * 1024 * 1024
JSON_HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class PendingResponse:
    """One call; `answer` makes the answer, if no fault replaces it."""

    state: ServerState
    request: web.Request
    call: CallRecord
    answer: Callable[[], web.Response]


async def respond(pending: PendingResponse, step: FaultStep) -> web.StreamResponse:  # noqa: C901, PLR0911 - one case per kind
    """Answer a call as its step says. Raises ErrorResponse for an error."""
    pending.call.step = step.text
    match step.kind:
        case "ok" | "slow" | "fail":
            await pending.state.pause(step.seconds)
            return pending.answer()
        case "drop":
            return _reset(pending)
        case "close":
            return _close(pending)
        case "hang" | "create late":
            return await _hang(pending)
        case "html":
            return web.Response(text="<html><body><h1>It works!</h1></body></html>", content_type="text/html")
        case "no id":
            return web.json_response({})
        case "cut":
            return await _cut(pending)
        case "oversize":
            content = json.loads(pending.answer().text or "{}")
            return web.json_response({**content, "padding": "x" * PADDING_CHARACTERS})
        case "redirect":
            return web.Response(status=302, headers={"Location": f"{pending.state.url}/moved"})
        case "reply":
            headers = {**JSON_HEADERS, **_retry_headers(pending, step)}
            return web.Response(status=step.status, body=_filled(pending, step.body), headers=headers)
        case _:  # throttle and error
            text = Quota.model_validate(step.window).error_text if step.status == 429 else None
            code = step.code or ERROR_CODES.get(step.status, "DCS.5000")
            raise ErrorResponse(step.status, code, text, _retry_headers(pending, step))


def _reset(pending: PendingResponse) -> web.Response:
    transport = pending.request.transport
    if transport is not None:
        # With linger time 0 the kernel sends a reset; without it an orderly FIN.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return ConnectionClosed()


def _close(pending: PendingResponse) -> web.Response:
    if pending.request.transport is not None:
        pending.request.transport.close()
    return ConnectionClosed()


async def _hang(pending: PendingResponse) -> web.Response:
    # The framework does not report that a caller has gone: it is polled.
    clock = get_running_loop().time
    deadline = clock() + MAX_HANG_SECONDS
    while clock() < deadline and not pending.state.stopping.is_set() and pending.request.transport is not None:
        await pending.state.pause(HANG_POLL_SECONDS)
    return _reset(pending)


async def _cut(pending: PendingResponse) -> web.StreamResponse:
    body = (pending.answer().text or "").encode()
    headers = {**pending.state.headers(pending.call), **JSON_HEADERS, "Content-Length": str(len(body))}
    response = web.StreamResponse(headers=headers)
    await response.prepare(pending.request)
    await response.write(body[: len(body) // 2])
    _close(pending)
    return response


def _filled(pending: PendingResponse, body: str) -> bytes:
    _, _, signed = pending.request.headers.get("Authorization", "").partition("Access=")
    body = body.replace(REQUEST_ID, pending.call.request_id)
    return body.replace(ACCESS_KEY, signed.partition(",")[0] or ACCESS_KEY).encode()


def _retry_headers(pending: PendingResponse, step: FaultStep) -> dict[str, str]:
    if step.retry_form == "after":
        return {"Retry-After": str(step.retry_seconds)}
    if step.retry_form == "at":
        return {"Retry-After": formatdate(pending.state.now() + step.retry_seconds, usegmt=True)}
    return {}

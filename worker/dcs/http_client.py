"""One HTTP call: a whole-call deadline, a bounded answer, no redirect, no cookie, and a result typed by evidence."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Final

import httpcore2
import httpx2

from schemas.dcs import ErrorBody, read_error
from worker.dcs.send_tracker import FrozenError, SendTracker
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence
from worker.policy.freeze_detector import FreezeDetector
from worker.policy.redaction import REDACTED, Redactor

ANSWER_LIMIT: Final = 1 << 20
"""Bytes of an answer's body that are read."""
HEADERS: Final = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "dcs-migration-worker",
}
"""What every call carries."""

OnCallEnd = Callable[[str, str, float, str | None], None]
"""Called after every attempt: operation, status label, seconds, region (None: a call for credentials)."""
OnCallStart = Callable[[str, str, str], Mapping[str, str]]
"""Called before every attempt (operation, method, URL); gives further headers for it."""
OnAnswer = Callable[[httpx2.Response], None]
"""Called with a whole answer while its connection is not free yet; raises CallFailedError if it proves nothing."""

MAX_MESSAGE_CHARACTERS: Final = 300
"""Of the error of a call without an answer; it may repeat bytes that came."""
_SIGNED: Final = re.compile(r"Access=([^,\s]+).*Signature=([^,\s]+)")
_CREDENTIALS: Final = frozenset({b"x-auth-token", b"x-security-token", b"x-metadata-token"})
_OPERATION: Final = "operation"
_ON_ANSWER: Final = "on_answer"
_REGION: Final = "region"
_FREEZES: Final = "freezes"
# What httpx2 would act on: bodies come as they were sent, nothing is followed or kept.
_DROPPED: Final = frozenset({b"content-encoding", b"transfer-encoding", b"location", b"set-cookie", b"set-cookie2"})


class CallFailedError(Exception):
    """A call has ended without an answer that counts."""

    def __init__(self, error: CallError) -> None:
        super().__init__(error.message)
        self.error = error


class OversizeError(Exception):
    """The answer is larger than ANSWER_LIMIT."""


def new_request(
    operation: str,
    method: str,
    url: httpx2.URL | str,
    headers: httpx2.Headers | Mapping[str, str] | None = None,
    content: bytes = b"",
    on_answer: OnAnswer | None = None,
    region: str | None = None,
) -> httpx2.Request:
    """The request of a call; `operation` is its name in metrics."""
    extensions = {_OPERATION: operation, _ON_ANSWER: on_answer, _REGION: region}
    return httpx2.Request(method, url, headers=headers, content=content or None, extensions=extensions)


class HttpClient(httpx2.AsyncBaseTransport):
    """Makes calls. Their results are values; only cancellation is raised.

    It is the transport of the `httpx2.AsyncClient` inside, so that each attempt of an `auth` passes through it.
    """

    def __init__(
        self,
        transport: httpx2.AsyncBaseTransport,
        deadline: float,
        *,
        freeze_detector: FreezeDetector,
        on_call_end: OnCallEnd = lambda *_: None,
        on_call_start: OnCallStart | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self.redactor = redactor or Redactor(())
        """Knows the secrets that calls show or bring."""
        self._transport = transport
        self._deadline = deadline
        self._freeze_detector = freeze_detector
        self._on_call_end = on_call_end
        self._on_call_start = on_call_start
        self._shown: list[str] = []
        self._abandoned: set[asyncio.Task[httpx2.Response]] = set()
        self._client = httpx2.AsyncClient(transport=self, trust_env=False, timeout=None)

    async def send(self, request: httpx2.Request, auth: httpx2.Auth | None = None) -> httpx2.Response | CallError:
        """Send a request made by `new_request`, as often as `auth` asks for; the last answer, read to its end."""
        # Before `auth` asks whether the request may still be sent: a freeze makes the answer worthless.
        request.extensions[_FREEZES] = self._freeze_detector.tick()
        try:
            return await self._client.send(request, auth=auth)
        except CallFailedError as failed:
            return failed.error

    def error_of(self, answer: httpx2.Response) -> ErrorBody:
        """What an error answer says, without secrets: it ends in events, logs and pages (law no-secrets)."""
        signed = _SIGNED.search(answer.request.headers.get("Authorization", ""))

        def redact(text: str) -> str:
            text = str(self.redactor.redact(text))
            return text.replace(signed[2], REDACTED) if signed is not None else text

        return read_error(answer.content, redact)

    def _note_credentials(self, request: httpx2.Request) -> None:
        """Redact from now on what authenticates the request: the secrets of the settings may have been rotated."""
        shown = [value.decode("latin-1") for name, value in request.headers.raw if name.lower() in _CREDENTIALS]
        if (signed := _SIGNED.search(request.headers.get("Authorization", ""))) is not None:
            shown.append(signed[1])
        if shown != self._shown:
            self.redactor.add(shown)
            self._shown = shown

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request once, within the deadline. Raises CallFailedError if no whole answer came."""
        operation: str = request.extensions[_OPERATION]
        if self._on_call_start is not None:
            request.headers.update(self._on_call_start(operation, request.method, str(request.url)))
        self._note_credentials(request)
        started, region = time.perf_counter(), request.extensions[_REGION]
        try:
            answer = await self._send(request)
        except CallFailedError as failed:
            self._on_call_end(operation, failed.error.label, time.perf_counter() - started, region)
            raise
        self._on_call_end(operation, str(answer.status_code), time.perf_counter() - started, region)
        return answer

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        tracker = SendTracker(request.content, self._freeze_detector, request.extensions[_FREEZES])
        exchange = _Exchange(self._transport, request, tracker)
        # In a separate task, which is cancelled once at most: a second cancellation could interrupt the closing of
        # a connection, and what is left in its buffer would be sent later.
        task = asyncio.create_task(exchange.run())
        try:
            done, _ = await asyncio.wait({task}, timeout=self._deadline)
            if not done:
                exchange.abandon(task)
                await asyncio.wait({task})
        except asyncio.CancelledError:
            exchange.abandon(task)
            self._abandoned.add(task)
            task.add_done_callback(self._forget)
            raise
        return self._answer_of(task, tracker)

    def _forget(self, task: asyncio.Task[httpx2.Response]) -> None:
        self._abandoned.discard(task)
        _ = task.cancelled() or task.exception()  # else asyncio reports an exception that was never retrieved

    def _answer_of(self, task: asyncio.Task[httpx2.Response], tracker: SendTracker) -> httpx2.Response:
        try:
            return task.result()
        except CallFailedError:
            raise
        except asyncio.CancelledError:
            failure = _lost(tracker, CallStatus.TIMEOUT, f"no answer within {self._deadline:g} s")
        except FrozenError as error:
            failure = CallError(Evidence.NEVER_SENT, ErrorKind.RETRY, CallStatus.FROZEN, str(error))
        except OversizeError as error:
            failure = _lost(tracker, CallStatus.OVERSIZE, str(error))
        except Exception as error:  # noqa: BLE001 - fail closed: an unknown error is ambiguous
            status = CallStatus.RESET if tracker.may_have_sent else CallStatus.CONNECTION_REFUSED
            failure = _lost(tracker, status, self.redactor.answer(_described(error))[:MAX_MESSAGE_CHARACTERS])
        raise CallFailedError(failure)


class _Exchange:
    """One request and its answer."""

    def __init__(self, transport: httpx2.AsyncBaseTransport, request: httpx2.Request, tracker: SendTracker) -> None:
        self._transport = transport
        self._request = request
        self._tracker = tracker
        self._is_over = False

    def abandon(self, task: asyncio.Task[httpx2.Response]) -> None:
        """End the exchange, unless it is over and its connection about to be free or closed."""
        if not self._is_over and not self._tracker.is_closing:
            task.cancel()

    async def run(self) -> httpx2.Response:
        """Send the request, read the answer to its end, and free or close the connection."""
        try:
            response = await self._transport.handle_async_request(self._tracker.tracked(self._request))
        except BaseException:
            self._is_over = True
            await self._tracker.close_connection()
            raise
        try:
            answer = self._whole(response, await _read(response))
            if (on_answer := self._request.extensions[_ON_ANSWER]) is not None:
                on_answer(answer)
        except BaseException:
            self._is_over = True
            # The true answer may still come on it, and would be believed to be that of the next request.
            await _close_connection(response)
            raise
        finally:
            self._is_over = True
            await response.aclose()
        return answer

    def _whole(self, response: httpx2.Response, content: bytes) -> httpx2.Response:
        return httpx2.Response(
            response.status_code,
            headers=[pair for pair in response.headers.raw if pair[0].lower() not in _DROPPED],
            content=content,
            request=self._request,
            extensions=response.extensions,
        )


async def _read(response: httpx2.Response) -> bytes:
    """The body as it was sent, in any encoding. The connection is not free yet: `aiter_raw` would free it."""
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    chunks, parts, size = response.stream.__aiter__(), [], 0
    try:
        async for chunk in chunks:
            parts.append(chunk)
            size += len(chunk)
            if size > ANSWER_LIMIT:
                raise OversizeError(f"the answer is larger than {ANSWER_LIMIT} bytes")
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
    return b"".join(parts)


async def _close_connection(response: httpx2.Response) -> None:
    stream: httpcore2.AsyncNetworkStream | None = response.extensions.get("network_stream")
    if stream is not None:
        await stream.aclose()


def _lost(tracker: SendTracker, status: CallStatus, message: str) -> CallError:
    evidence = Evidence.AMBIGUOUS if tracker.may_have_sent else Evidence.NEVER_SENT
    return CallError(evidence, ErrorKind.RETRY, status, message)


def _described(error: BaseException) -> str:
    """The error with the first of its causes, which is what an operator can do something about."""
    cause = error
    while (below := cause.__cause__ or cause.__context__) is not None:
        cause = below.exceptions[0] if isinstance(below, BaseExceptionGroup) else below
    text = f"{type(error).__name__}: {error}"
    return text if str(cause) in text else f"{text} ({cause})"

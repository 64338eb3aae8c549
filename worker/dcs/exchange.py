"""One HTTP exchange: a whole-call deadline, a bounded reply, no redirect, and an ending typed by evidence."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import httpx

from worker.dcs.evidence import NotSentError, call_witness
from worker.policy.fault import Evidence, Fault, Remedy
from worker.policy.pulse import Pulse

REPLY_LIMIT: Final = 1 << 20

Told = Callable[[str, str, float], None]
"""Is told of every call: operation, status label, seconds."""
Begun = Callable[[str, str, str], Mapping[str, str]]
"""Is told that a call begins (operation, method, URL), and gives the headers that it carries besides."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    headers: httpx.Headers
    body: bytes


class Exchange:
    """Sends requests over one transport. Endings are values; only cancellation is raised."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        *,
        deadline: float,
        told: Told,
        pulse: Pulse,
        begun: Begun | None = None,
    ) -> None:
        self._transport = transport
        self._deadline = deadline
        self._told = told
        self._pulse = pulse
        self._begun = begun

    async def send(self, operation: str, request: httpx.Request) -> Reply | Fault:
        """Send `request` and read the whole reply within the deadline."""
        if self._begun is not None:
            request.headers.update(self._begun(operation, request.method, str(request.url)))
        started = time.perf_counter()
        ending = await self._send(request)
        label = str(ending.status) if isinstance(ending, Reply) else ending.label
        self._told(operation, label, time.perf_counter() - started)
        return ending

    async def _send(self, request: httpx.Request) -> Reply | Fault:
        witness = call_witness(self._pulse)
        try:
            async with asyncio.timeout(self._deadline):
                response = await self._transport.handle_async_request(request)
                stream = response.stream
                assert isinstance(stream, httpx.AsyncByteStream)
                try:
                    return Reply(response.status_code, response.headers, await _read(stream))
                finally:
                    await stream.aclose()
        except TimeoutError:
            return _broken(witness.was_connected, "timeout", f"no answer within {self._deadline:g} s")
        except NotSentError as error:
            return _broken(False, "frozen", str(error))
        except _TooLargeError as error:
            return _broken(True, "oversize", str(error))
        except Exception as error:  # noqa: BLE001 - law 1, fail closed: an unknown ending is ambiguous
            label = "reset" if witness.was_connected else "refused"
            return _broken(witness.was_connected, label, f"{type(error).__name__}: {error}"[:300])


def _broken(was_connected: bool, label: str, message: str) -> Fault:
    evidence = Evidence.AMBIGUOUS if was_connected else Evidence.NEVER_SENT
    return Fault(evidence, Remedy.RETRY, label, message)


class _TooLargeError(Exception):
    pass


async def _read(stream: httpx.AsyncByteStream) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in stream:
        size += len(chunk)
        if size > REPLY_LIMIT:
            raise _TooLargeError(f"the reply is larger than {REPLY_LIMIT} bytes")
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)

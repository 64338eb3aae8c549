"""The two proofs of never-sent: the body that is read, and the steps that httpcore2 reports."""

from collections.abc import Mapping
from typing import Any

import httpcore2
import httpx2
import pytest

from tests.fakes.clock import FakeClock
from tests.unit.dcs.raw_server import allowed, an_order, calling, client_tls, created, http, server_tls, serving
from worker.dcs.http_client import HttpClient, new_request
from worker.dcs.send_tracker import CLOSING, CONNECTED, FrozenError, SendTracker
from worker.dcs.transport import ServiceTransport
from worker.policy.call_result import CallError, CallStatus, Evidence
from worker.policy.freeze_detector import FreezeDetector

STARTED = "http11.send_request_headers.started"
AWAKE = FreezeDetector(lambda: 0.0)


def a_tracker(freeze_detector: FreezeDetector = AWAKE) -> SendTracker:
    """Of a create."""
    return SendTracker(b"{}", freeze_detector, freeze_detector.tick())


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_successful_call_reports_its_steps(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names that evidence rests on: a release of httpcore2 that renames them has to be noticed here."""
    events: list[str] = []
    trace = SendTracker.trace

    async def heard(tracker: SendTracker, event: str, info: Mapping[str, Any]) -> None:
        events.append(event)
        await trace(tracker, event, info)

    monkeypatch.setattr(SendTracker, "trace", heard)
    tls = server_tls() if scheme == "https" else None
    async with serving(created("t-1"), created("t-2"), tls=tls) as server, calling(server.url) as dcs:
        await dcs.create(an_order("r-1"), allowed)
        assert events.index(CONNECTED) < events.index(STARTED) < events.index(CLOSING)
        events.clear()
        await dcs.create(an_order("r-2"), allowed)
        assert STARTED in events
        assert CONNECTED not in events


async def test_trace_suspends_nowhere() -> None:
    """A callback that does leaks the slots of a pool when calls are cancelled: it ends at its first step."""
    tracker = a_tracker()
    for event, info in ((STARTED, {"request": httpcore2.Request("POST", "http://h/")}), (CLOSING, {})):
        step = tracker.trace(event, info)
        with pytest.raises(StopIteration):
            step.send(None)


async def test_nothing_was_sent_as_long_as_both_say_so() -> None:
    """Connecting, TLS and what a proxy is asked are no sending."""
    tracker = a_tracker()
    for event in ("connection.start_tls.started", "http11.response_closed.complete"):
        await tracker.trace(event, {})
    await tracker.trace(STARTED, {"request": httpcore2.Request("CONNECT", "http://h/")})
    assert not tracker.may_have_sent
    assert repr(tracker) == "<SendTracker: not sent>"


@pytest.mark.parametrize("event", [STARTED, "http12.renamed", "receive_response_headers.started"])
async def test_any_event_about_a_request_makes_it_ambiguous(event: str) -> None:
    """Whatever its name in a later release."""
    tracker = a_tracker()
    await tracker.trace(event, {"request": httpcore2.Request("POST", "http://h/")})
    assert tracker.may_have_sent


async def test_body_that_was_read_makes_it_ambiguous() -> None:
    """Also if no event was ever reported; and it is read once."""
    tracker = a_tracker()
    assert [part async for part in tracker] == [b"{}"]
    assert tracker.may_have_sent
    with pytest.raises(RuntimeError, match="once"):
        [part async for part in tracker]


class FrozenAt:
    """A clock of a process that is frozen for a minute when it was looked at so many times."""

    def __init__(self, looks: int) -> None:
        self._left = looks

    def __call__(self) -> float:
        """The time."""
        self._left -= 1
        return 0.0 if self._left >= 0 else 60.0


@pytest.mark.parametrize("looks", [2, 3])
async def test_frozen_process_sends_no_body(looks: int) -> None:
    """Woken up before the head, or between head and body, it gives the call up: nothing is created."""
    async with (
        serving(created("t-1")) as server,
        calling(server.url, freeze_detector=FreezeDetector(FrozenAt(looks))) as dcs,
    ):
        result = await dcs.create(an_order(), allowed)
        assert isinstance(result, CallError)
        assert (result.evidence, result.status) == (Evidence.NEVER_SENT, CallStatus.FROZEN)
        assert server.requests == []
        assert b"instance" not in b"".join(server.requests)


async def test_freeze_between_permission_and_attempt_sends_nothing() -> None:
    """The permission to send was asked before the freeze: it is worth nothing after it."""
    clock = FakeClock(0.0)
    freeze_detector = FreezeDetector(clock)

    def freeze(*_: str) -> dict[str, str]:
        clock.now += 60.0
        return {}

    transport = ServiceTransport(client_tls(), 5)
    async with serving(http(200, b"ok")) as server:
        client = HttpClient(transport, deadline=5, freeze_detector=freeze_detector, on_call_start=freeze)
        result = await client.send(new_request("create", "POST", server.url, content=b"{}"))
        assert isinstance(result, CallError)
        assert (result.evidence, result.status) == (Evidence.NEVER_SENT, CallStatus.FROZEN)
        assert server.requests == []
    await transport.aclose()


async def test_frozen_body_is_not_counted_as_read() -> None:
    """It raised before its first byte."""
    tracker = a_tracker(FreezeDetector(FrozenAt(2)))
    with pytest.raises(FrozenError):
        [part async for part in tracker]
    assert not tracker.may_have_sent


async def test_each_attempt_has_a_tracker_of_its_own() -> None:
    """A second attempt after a 401 is judged by itself."""

    class Twice(httpx2.Auth):
        requires_request_body = True

        async def async_auth_flow(self, request: httpx2.Request):  # type: ignore[no-untyped-def]
            yield request
            yield request

    transport = ServiceTransport(client_tls(), 5)
    async with serving(http(401), http(200, b"ok")) as server:
        client = HttpClient(transport, deadline=5, freeze_detector=AWAKE)
        answer = await client.send(new_request("list", "POST", server.url, content=b"{}"), auth=Twice())
        assert isinstance(answer, httpx2.Response)
        assert (answer.content, len(server.requests)) == (b"ok", 2)
        assert all(request.endswith(b"{}") for request in server.requests)
    await transport.aclose()

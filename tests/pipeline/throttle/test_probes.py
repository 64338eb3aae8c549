"""Probes in virtual time: one that gives no result is followed by the next."""

import asyncio

import pytest

from tests.pipeline.virtual_time.event_loop import VirtualTime
from worker.pipeline.probes import PROBE_TIMEOUT_SECONDS, Part, Probes
from worker.policy.call_result import CallError, CallResult, CallStatus, ErrorKind, ErrorScope, Evidence, TaskCreated
from worker.policy.throttle.hold import REGION_TIMES, Hold

DONE = TaskCreated("i")
NO_ENDPOINT = CallError(
    Evidence.REFUSED, ErrorKind.NOT_FOUND, CallStatus.ANSWERED, http_status=404, error_code="APIGW.0101"
)


@pytest.mark.parametrize("failure", ["hangs", "raises"])
def test_probe_that_gives_no_result_is_followed_by_the_next(failure: str) -> None:
    """A probe that hangs is abandoned after some seconds; a defect of the worker does not end the probes."""
    clock, sent = VirtualTime(), []

    async def send(*_: object) -> CallResult:
        sent.append(clock.now)
        if len(sent) < 3:
            if failure == "raises":
                raise RuntimeError("defect")
            await asyncio.Event().wait()
        return DONE

    def on_result(part: Part, _: str, result: CallResult) -> None:
        part.probe_ended(result, clock.now)

    async def scene() -> None:
        hold = Hold("region", (ErrorScope.REGION,), REGION_TIMES)
        probes: Probes[str] = Probes(send, on_result, lambda: clock.now, lambda: 0.0)
        hold.refused(NO_ENDPOINT, clock.now)
        probes.begin(hold, "r")
        while hold.is_blocking:
            await asyncio.sleep(0.5)
        probes.close()

    clock.run_until_complete(scene())
    clock.close()
    assert len(sent) == 3
    assert sent[-1] - sent[0] <= 2 * PROBE_TIMEOUT_SECONDS + 2

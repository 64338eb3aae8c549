"""The last error of a request survives its copies, and reaches the event and the parked message."""

import pytest

from schemas import names
from schemas.envelope import Envelope
from tests.pipeline.bench import Bench
from tests.pipeline.fakes import TIMEOUT, FakeDelivery
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence
from worker.policy.retry_policy import RetryPolicy


def answer(status: int, code: str | None, message: str) -> CallError:
    """An ambiguous answer to a create."""
    return CallError(
        *(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.ANSWERED, message),
        http_status=status,
        error_code=code,
        error_msg="text",
        dcs_request_id="d-7",
    )


FIREWALL = "HTTP 403 from neither DCS nor its gateway (server nginx, via 1.1 fw): text"


async def exhausted(error: CallError) -> Bench:
    """A request whose creates all end so, delivered to a new process each time."""
    delivery = FakeDelivery()
    bench = Bench(RetryPolicy(delays=(60.0,)), create=[error])
    while True:
        await bench.deliver(delivery)
        last = bench.publisher.published[-1]
        if last.what != "retry":
            return bench
        delivery, now = FakeDelivery(headers=last.headers), bench.now
        bench = Bench(RetryPolicy(delays=(60.0,)), create=[error])
        bench.now = now + 60.0


@pytest.mark.parametrize(
    ("status", "code", "message"), [(403, None, FIREWALL), (500, "DCS.5000", "Internal service error.")]
)
async def test_exhausted_request_names_its_last_error(status: int, code: str | None, message: str) -> None:
    """Event and parked message: the look-up that ended the request, in a delivery of its own, met no error."""
    bench = await exhausted(answer(status, code, message))
    (event,) = bench.publisher.events
    assert (event["reason"], event["dcs_request_id"]) == ("exhausted", "d-7")
    assert event["error"] == {"status": status, "error_code": code, "error_msg": "text", "error_ext_msg": None}
    assert event["message"].endswith(message)
    (parked,) = [published for published in bench.publisher.published if published.what == "park"]
    assert parked.headers.get(names.PARKED_ERROR_CODE) == code
    last_error = Envelope.read(parked.headers, redelivered=False, now=bench.now).last_error
    assert last_error is not None
    assert (last_error.http_status, last_error.message) == (status, message)


async def test_error_without_an_answer_has_no_status() -> None:
    """A time-out proves nothing, and was no answer."""
    bench = await exhausted(TIMEOUT)
    (event,) = bench.publisher.events
    assert event["error"] == {"status": None, "error_code": None, "error_msg": None, "error_ext_msg": None}

"""Endings of a create call: what DCS did, and what the caller receives.

`creates_task` is the truth, which the worker never learns. `is_ambiguous` says that it cannot be known from the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from worker.policy import error_table
from worker.policy.call_result import CallError, CallStatus, Condition, ErrorKind, Evidence, TaskCreated
from worker.policy.error_table import Row
from worker.policy.error_text import read_text

Classify = Callable[[int, str | None, Condition | None], Row]
Reception = Literal["answer", "reset", "deadline"]

_THROTTLED: Final = "policy user over ratelimit,limit:5,time:1 minute"


@dataclass(frozen=True, slots=True)
class CallEnding:
    """One ending of a create call."""

    creates_task: bool = False
    """DCS creates the task."""
    is_listed_late: bool = False
    """DCS lists the task as late as the assumption allows."""
    received: Reception = "answer"
    """What the caller receives: the answer, a connection reset, or nothing before its deadline."""
    status: int = 200
    code: str | None = None
    message: str | None = None
    retry_after: float | None = None
    is_ambiguous: bool = False
    """The caller cannot know whether DCS created the task."""
    is_permanent: bool = False
    """DCS always gives this answer to the request."""
    is_sent: bool = True


CALL_ENDINGS: Final = {
    "ok": CallEnding(creates_task=True),
    "ok-listed-late": CallEnding(creates_task=True, is_listed_late=True),
    "created-reset": CallEnding(creates_task=True, received="reset", is_ambiguous=True),
    "created-timeout": CallEnding(creates_task=True, received="deadline", is_ambiguous=True),
    "created-late-timeout": CallEnding(creates_task=True, is_listed_late=True, received="deadline", is_ambiguous=True),
    "created-late-reset": CallEnding(creates_task=True, is_listed_late=True, received="reset", is_ambiguous=True),
    "reset": CallEnding(received="reset", is_ambiguous=True),
    "timeout": CallEnding(received="deadline", is_ambiguous=True),
    "created-error": CallEnding(creates_task=True, is_listed_late=True, status=503, is_ambiguous=True),
    "error": CallEnding(status=500, code="DCS.5000", is_ambiguous=True),
    "created-gateway-timeout": CallEnding(
        creates_task=True, is_listed_late=True, status=504, code="APIG.0201", is_ambiguous=True
    ),
    "gateway-408": CallEnding(status=408, is_ambiguous=True),
    "proxy-403": CallEnding(status=403, is_ambiguous=True),
    "conflict": CallEnding(status=409, code="Exists", is_ambiguous=True, is_permanent=True),
    "created-conflict": CallEnding(creates_task=True, is_listed_late=True, status=409, is_ambiguous=True),
    "created-no-id": CallEnding(creates_task=True, is_listed_late=True, is_ambiguous=True),
    "no-id": CallEnding(is_ambiguous=True),
    "unsent": CallEnding(is_sent=False),
    "busy": CallEnding(status=400, code="DCS.4096"),
    "throttled": CallEnding(status=429, message=_THROTTLED),
    "throttled-shortly": CallEnding(status=429, retry_after=2.6),
    "throttled-long": CallEnding(status=429, retry_after=90.0),
    "full": CallEnding(status=400, code="DCS.4035"),
    "rejected": CallEnding(status=400, code="DCS.4013", is_permanent=True),
    "unauthenticated": CallEnding(status=401, code="DCS.1001", is_permanent=True),
    "forbidden": CallEnding(status=403, code="DCS.2003", is_permanent=True),
    "missing": CallEnding(status=404, code="DCS.3022", is_permanent=True),
    "key-refused": CallEnding(status=401, code="APIGW.0301"),
    "no-endpoint": CallEnding(status=404, code="APIGW.0101"),
}
ENDINGS_OF_EVERY_REQUEST: Final = ("key-refused", "no-endpoint")
"""Endings that concern every request. Twice in a row they would be blamed on a request, though they are temporary."""
SUCCESSFUL_ENDINGS: Final = ("ok", "ok-listed-late")
LOOKUP_FAULTS: Final[dict[str, tuple[int, str | None]]] = {
    "lookup-503": (503, None),
    "lookup-429": (429, None),
    "lookup-403": (403, "DCS.4003"),
}


def received(name: str, task_id: str, classify: Classify) -> TaskCreated | CallError:
    """Result of a create call with this ending, as the worker receives it."""
    ending = CALL_ENDINGS[name]
    if name in SUCCESSFUL_ENDINGS:
        return TaskCreated(task_id, f"job of {task_id}")
    if not ending.is_sent:
        return CallError(Evidence.NEVER_SENT, ErrorKind.RETRY, CallStatus.CONNECTION_REFUSED)
    if ending.received != "answer":
        status = CallStatus.TIMEOUT if ending.received == "deadline" else CallStatus.RESET
        return CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, status)
    return error_answer(ending.status, ending.code, classify, ending.message, ending.retry_after)


def error_answer(
    status: int,
    code: str | None,
    classify: Classify = error_table.row,
    message: str | None = None,
    retry_after: float | None = None,
) -> CallError:
    """Result of an error answer, as the DCS client reads it."""
    text = read_text(status, message)
    row = classify(status, code, text.condition)
    return CallError(
        row.evidence,
        row.kind,
        CallStatus.ANSWERED,
        message=message or "",
        http_status=status,
        error_code=code,
        error_msg=message,
        retry_after=retry_after,
        condition=text.condition,
        throttle=text.throttle,
    )

"""Timeline of one request, read from an event or a parked request, and its text form."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from schemas import names
from schemas.client import Event, ProvisioningEvent, read_event, read_provisioning_event
from schemas.event import MigrationFailed, MigrationProvisioningFailed, MigrationSucceeded
from schemas.journal import EMPTY, FIRST, Entry, Journal, Kind
from schemas.request import Sender
from worker.cli.common import exact_duration, format_table, output_width, printable, wrap
from worker.cli.parked.request import ParkedRequest, time_text
from worker.policy.call_result import CallError

_LABEL_WIDTH: Final = 14
_MOMENT_WIDTH: Final = 40
"""Time, duration such as `59 min 59 s`, and the space between columns."""

_ENTRY_TEXTS: Final = {
    Kind.CREATE: "create call {n}: {created}{code} after {took}{evidence}{dcs_request_id}",
    Kind.LOOKUP: "lookup: {found}{code} after {took}{dcs_request_id}",
    Kind.GATE: "waited {took} for the permit of a call",
    Kind.WAIT: "waits {took} in retry queue {n}: {reason}",
    Kind.RETURNED: "handed back by a replica that was shutting down or had no Redis",
    Kind.REDELIVERED: "redelivered: {deliveries} interrupted (worker or connection lost)",
    Kind.PARKED: "parked: {got}{code}",
    Kind.REPLAYED: "replayed by an operator (replay {n})",
}
_EVIDENCE_TEXTS: Final = {
    "never_sent": "not sent",
    "refused": "rejected: no task was created",
    "ambiguous": "result unknown: a task may have been created",
}
"""What the result of a create call proves. The result of a lookup proves nothing about tasks."""
_LOOKUP_TEXTS: Final = {
    "found": "task found",
    "absent": "no task found",
    "several": "tasks found that may belong to the request",
    "conflict": "only a task of another request with this request id found",
}
_WAIT_REASONS: Final = {
    "settle": "a create call may still take effect",
    "claimed": "another replica is handling the request",
    "copy": "duplicate message",
    "quarantine": "suspected of crashing workers, handled alone",
    "breaker": "DCS is failing, the circuit breaker is open",
    "turn": "no free permit for a call",
    "throttled": "rate limit of the project reached",
    "credentials": "DCS rejects the credentials",
    "quota": "quota of the project reached",
}


@dataclass(frozen=True, slots=True)
class TimelineStep:
    """One line of the timeline; `at` in epoch seconds, None if unknown."""

    at: float | None
    text: str
    data: Mapping[str, Any]
    """The line as JSON."""


@dataclass(frozen=True, slots=True)
class RequestTimeline:
    """Identity of a request, its state (`succeeded`, `failed`, `parked`), and its steps, oldest first."""

    sender: Sender
    state: str
    received_at: float | None
    """First receipt in epoch seconds."""
    steps: Sequence[TimelineStep]

    def as_json(self) -> dict[str, Any]:
        """Identity, state and all lines as JSON."""
        since = self.received_at
        return {
            **asdict(self.sender),
            "state": self.state,
            "timeline": [
                {
                    "at": time_text(step.at),
                    "after": None if step.at is None or since is None else round(step.at - since, 3),
                    **step.data,
                    "text": step.text,
                }
                for step in self.steps
            ],
        }


def timeline_of_event(event: Event, headers: Mapping[str, object]) -> RequestTimeline:
    """The timeline of the request that an event with these headers answers."""
    received_at = event.received_at.timestamp()
    end: dict[str, Any] = {"did": "event", "event": event.model_dump(mode="json")}
    text = _describe_event(event)
    if headers.get(names.REPEATED) is True:
        end, text = end | {"repeated": True}, f"{text}; this message was answered from memory"
    return RequestTimeline(
        Sender(event.request_id, event.project_id, event.region, event.name),
        "succeeded" if isinstance(event, MigrationSucceeded) else "failed",
        received_at,
        [*_steps(received_at, headers), TimelineStep(event.completed_at.timestamp(), text, end)],
    )


def timeline_of_provisioning(event: ProvisioningEvent) -> RequestTimeline:
    """The timeline of a created task, by the event of its follow-up."""
    succeeded_at, end = event.succeeded_at.timestamp(), {"did": "event", "event": event.model_dump(mode="json")}
    looks, status = f"looks: {event.checks}", f"status {event.task_status}" if event.task_status else "no status known"
    state, why = "provisioned", ""
    if isinstance(event, MigrationProvisioningFailed):
        state, why = "provisioning failed", f"{event.reason}, "
        status = f"{status}: {event.fail_reason}" if event.fail_reason else status
    return RequestTimeline(
        Sender(event.request_id, event.project_id, event.region, event.name),
        state,
        succeeded_at,
        [
            TimelineStep(succeeded_at, f"succeeded: task {event.instance_id}", {"did": "succeeded"}),
            TimelineStep(event.completed_at.timestamp(), f"{state}: {why}{status} ({looks})", end),
        ],
    )


def timeline_of_event_body(body: bytes, headers: Mapping[str, object]) -> RequestTimeline:
    """The timeline that an event of either kind tells. Raises ValueError if the body is no event."""
    with suppress(ValueError):
        return timeline_of_provisioning(read_provisioning_event(body))
    return timeline_of_event(read_event(body), headers)


def timeline_of_parked(request: ParkedRequest) -> RequestTimeline:
    """The timeline of a parked request."""
    headers = request.parked.headers
    received_at = request.envelope.first_received_at or None
    steps = list(_steps(received_at, headers if request.envelope.is_own_copy else {}))
    if not (steps and steps[-1].data["did"] == Kind.PARKED):  # the broker parked it
        data = {"did": "parked", "got": request.reason}
        steps.append(TimelineStep(request.parked_at, f"parked: {request.reason}", data))
    elif (error := request.envelope.last_error) is not None:
        whose = "a create was answered" if error.is_conflict else "last error of DCS"
        steps[-1] = replace(steps[-1], text=f"{steps[-1].text}; {whose}: {error.message or error.http_status}")
    return RequestTimeline(request.sender, "parked", received_at, steps)


def _steps(received_at: float | None, headers: Mapping[str, object]) -> Iterator[TimelineStep]:
    """The first receipt, and the entries of the journal in `headers`."""
    if received_at is not None:
        yield TimelineStep(received_at, "received", {"did": "received"})
    journal = Journal.read(headers[names.JOURNAL]) if names.JOURNAL in headers else EMPTY
    if journal is None:
        yield TimelineStep(None, "(the journal is not readable)", {"did": "unreadable"})
        return
    for number, entry in enumerate(journal.entries):
        if journal.dropped and number == min(FIRST, len(journal.entries) - 1):
            what = "1 entry" if journal.dropped == 1 else f"{journal.dropped:,} entries"
            yield TimelineStep(None, f"({what} omitted)", {"did": "dropped", "n": journal.dropped})
        data = {name: value for name, value in entry.model_dump(mode="json").items() if name != "at"}
        yield TimelineStep(journal.moment(entry), describe_entry(entry), data)


def describe_entry(entry: Entry) -> str:
    """One journal entry as a sentence."""
    return _ENTRY_TEXTS[entry.did].format(
        n=entry.n,
        got=entry.got,
        created="task created" if entry.got == "done" else entry.got,
        found=_LOOKUP_TEXTS.get(entry.got, entry.got),
        reason=_WAIT_REASONS.get(entry.got, f"because of {entry.got}"),
        took=exact_duration(entry.took),
        code=f" ({entry.code})" if entry.code else "",
        evidence=f", {_EVIDENCE_TEXTS.get(entry.evidence, entry.evidence)}" if entry.evidence else "",
        dcs_request_id=f", DCS request id {entry.id}" if entry.id else "",
        deliveries=f"{entry.n} delivery was" if entry.n == 1 else f"{entry.n} deliveries were",
    )


def _describe_event(event: Event) -> str:
    """The final event in one sentence."""
    last_answer = f"; last DCS request id: {event.dcs_request_id}" if event.dcs_request_id else ""
    calls = f"create calls: {event.attempts}{last_answer}"
    if isinstance(event, MigrationSucceeded):
        how = "created" if event.resolution == "created" else "adopted, it existed before"
        return f"succeeded: task {event.instance_id} ({how}; {calls})"
    parked = "; parked, needs an operator" if event.parked else ""
    return f"failed: {describe_failure(event)} ({calls}){parked}"


def describe_failure(event: MigrationFailed) -> str:
    """Reason, error code and message of a failure."""
    code = f" ({event.error.error_code})" if event.error and event.error.error_code else ""
    return f"{event.reason}{code}: {event.message}"


def describe_lookup_error(error: CallError) -> str:
    """Message and error code of a failed lookup."""
    code = f" ({error.error_code})" if error.error_code else ""
    return f"lookup failed: {error.error_msg or error.message}{code}"


def render_timeline(timeline: RequestTimeline) -> str:
    """The timeline as text: identity of the request, then its steps."""
    return "\n".join((*identity_lines(timeline.sender), label("state", timeline.state), "", render_steps(timeline)))


def render_steps(timeline: RequestTimeline) -> str:
    """The steps of the timeline as a table as wide as the terminal."""
    since, lines = timeline.received_at, []
    for step in timeline.steps:
        after = "" if step.at is None or since is None else exact_duration(step.at - since)
        first, *rest = wrap(step.text, output_width() - _MOMENT_WIDTH) or [""]
        lines += [(time_text(step.at) or "", after, first), *(("", "", line) for line in rest)]
    return format_table(("when", "after", "what"), lines, right=("after",))


def identity_lines(sender: Sender) -> Iterator[str]:
    """Identity of a request, as far as it is readable."""
    yield label("request", sender.request_id or "not readable")
    yield label("project", f"{sender.project_id or 'not readable'}, region {sender.region or 'not readable'}")
    yield label("task", sender.name or "not readable")


def label(name: str, text: str) -> str:
    """A line of a name and a text, safe for the terminal."""
    return f"{name:<{_LABEL_WIDTH}}{printable(text)}"

"""Where `explain` looks for a request that is not parked: its record in Redis, then the task with its marker in DCS.

Nothing is created or changed. Each source says whether it was asked, and why not.
"""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import ValidationError

from schemas import names
from schemas.client import read_event
from schemas.request import Request, Sender
from schemas.timestamp import to_text
from worker.bootstrap.components import lookup_client
from worker.claims.parked_records import read_record
from worker.cli.parked.timeline import RequestTimeline, describe_lookup_error, timeline_of_event
from worker.config import ConfigurationError, Settings, load_from_process
from worker.dcs.client import ROWS, UNFILTERED_PAGES
from worker.policy.call_result import CallError, ConflictingTask, SeveralTasks, TaskFound
from worker.policy.migration_request import MigrationRequest, migration
from worker.policy.outcome import ClaimsAwayError

_RECORD_TEXTS: Final = {
    "claimed": "in flight: a replica has claimed it",
    "claim expired": "its replica ended without a result; the request comes back from the broker",
    "released": "on its way: no replica handles it now, it waits in a queue",
    "not readable": "not known: the record cannot be read",
}


@dataclass(frozen=True, slots=True)
class Source:
    """A place where the request may be known, and what it says, or why it was not asked."""

    name: str
    state: Literal["found", "not found", "failed", "not asked"]
    text: str


@dataclass(frozen=True, slots=True)
class Sought:
    """The request to explain."""

    settings: Settings
    identity: str
    project: str | None
    region: str

    @property
    def sender(self) -> Sender:
        """As much of its identity as is known."""
        return Sender(self.identity, self.project, self.region if self.project else None)

    def migration(self) -> MigrationRequest | None:
        """A request with its ids and its marker, whose task is not known; None if the id cannot be one of a request."""
        networks = dict.fromkeys(("vpc_id", "subnet_id", "security_group_id"), "unknown")
        task = {"name": self.identity, **networks}
        ids = {"request_id": self.identity, "project_id": self.project, "region": self.region}
        try:
            request = Request.model_validate({**ids, "task": task})
        except ValidationError:
            return None
        return migration(request, default_region=self.region, with_marker=True)


Answer = tuple[Source, RequestTimeline | None]
"""A source, and the timeline of the request if the source knows it."""


async def other_sources(sought: Sought) -> AsyncIterator[Answer]:
    """Every source but the parked queue, and what it knows of the request."""
    request = sought.migration() if sought.project else None
    missing = "needs --project" if sought.project is None else "the id cannot be one of a request"
    for name, ask in (("claims in Redis", _ask_redis), ("tasks in DCS", _ask_dcs)):
        yield await ask(sought, name, request) if request else (Source(name, "not asked", missing), None)
    queues = f'AMQP cannot search a queue; look for "request_id": "{sought.identity}" in the logs of the workers'
    yield Source("requests and retry queues", "not asked", queues), None


async def _ask_redis(sought: Sought, name: str, request: MigrationRequest) -> Answer:
    url = sought.settings.claims_url
    if url is None:
        return Source(name, "not asked", "WORKER_CLAIMS_URL is not set"), None
    try:
        record = await read_record(url.get_secret_value(), request, time.time())
    except ClaimsAwayError as error:
        return Source(name, "failed", str(error)), None
    if record is None:
        return Source(name, "not found", "no record: it was not claimed in the last 7 days"), None
    if (ending := record.ending) is not None:
        timeline = timeline_of_event(read_event(ending.body), {names.JOURNAL: ending.journal} if ending.journal else {})
        text = f"{timeline.state}: {ending.reason}, at {ending.completed_at}"
        return Source(name, "found", text), timeline
    text = _RECORD_TEXTS[record.state]
    if record.last_sent_at is not None:
        text += f"; a create call may have been sent until {to_text(record.last_sent_at)}"
    state, _, _ = text.partition(":")
    return Source(name, "found", text), RequestTimeline(sought.sender, state, None, ())


async def _ask_dcs(sought: Sought, name: str, request: MigrationRequest) -> Answer:
    name = f"{name}, {sought.region}"
    if not sought.settings.marker:
        return Source(name, "not asked", "WORKER_MARKER is false: no task has the marker of a request"), None
    try:
        loaded = load_from_process()
    except ConfigurationError as error:
        return Source(name, "not asked", error.problems[0]), None
    async with AsyncExitStack() as stack:
        # The list call filters by name, and the name is not known: the unfiltered list is read as well.
        result = await lookup_client(stack, loaded).find(request, 0.0, may_exist=True)
    known = RequestTimeline(sought.sender, "a task exists", None, ())
    match result:
        case TaskFound(instance_id=task) | ConflictingTask(candidates=(task,)):
            status = f"; its status is {result.task_status}" if isinstance(result, TaskFound) else ""
            return Source(name, "found", f"task {task} has the marker of the request{status}"), known
        case SeveralTasks(candidates=tasks) | ConflictingTask(candidates=tasks):
            return Source(name, "found", f"tasks that may belong to the request: {', '.join(tasks)}"), known
        case CallError():
            return Source(name, "failed", describe_lookup_error(result)), None
        case _:
            among = f"among the first {ROWS * UNFILTERED_PAGES:,} tasks that DCS lists"
            return Source(name, "not found", f"no task with the marker of the request {among}"), None

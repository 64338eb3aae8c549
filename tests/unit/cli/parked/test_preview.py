"""Dry run of a replay: expected result of each request, with a fake client of DCS."""

import asyncio
import json
import time
from typing import Any

import pytest

from schemas import names
from schemas.last_error import LastError
from tests.unit.cli.parked.parked_messages import BODY, HEADERS, TASK, parked_request
from worker.cli.parked.preview import MAX_CONCURRENT_LOOKUPS, ReplayPreview, ReplayVerdict, _print_verdicts
from worker.cli.progress import Pacer
from worker.config import load
from worker.policy.call_result import (
    CallError,
    CallStatus,
    ConflictingTask,
    ErrorKind,
    Evidence,
    LookupResult,
    SeveralTasks,
    TaskFound,
    TaskNotFound,
)
from worker.policy.migration_request import MigrationRequest

REFUSED = CallError(
    Evidence.REFUSED, ErrorKind.FORBIDDEN, CallStatus.ANSWERED, error_code="DCS.4030", error_msg="no right to list"
)


class FakeDcsClient:
    """Returns one lookup result, and counts concurrent lookups."""

    def __init__(self, lookup_result: LookupResult | CallError) -> None:
        self.lookup_result = lookup_result
        self.since: list[float] = []
        self.running = self.most_at_once = 0

    async def find(
        self, parsed: MigrationRequest, since: float, *, may_exist: bool, was_sent: bool
    ) -> LookupResult | CallError:
        """The lookup result."""
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        self.since.append(since)
        await asyncio.sleep(0)
        self.running -= 1
        return self.lookup_result


async def _preview(client: FakeDcsClient, *requests: Any, **settings: str) -> list[tuple[str, ReplayVerdict]]:
    loaded = load({f"WORKER_{name.upper()}": value for name, value in settings.items()}, credentials=False)
    preview = ReplayPreview(loaded.settings, client, Pacer(None))  # type: ignore[arg-type]  # all that it needs of a client
    return [(request.id, verdict) async for request, verdict in preview.verdicts(requests)]


@pytest.mark.parametrize(
    ("lookup_result", "kind", "words"),
    [
        (TaskFound("t1"), "exists", "task t1 exists: only the event is sent"),
        (TaskNotFound(), "create", "would create"),
        (SeveralTasks(("t1", "t2")), "unclear", "these tasks may belong to it: t1, t2"),
        (ConflictingTask(("t1",)), "unclear", "its request id belongs to another task: t1"),
        (REFUSED, "unclear", "unknown: lookup failed: no right to list (DCS.4030)"),
        (
            CallError(Evidence.NEVER_SENT, ErrorKind.RETRY, CallStatus.CONNECTION_REFUSED, "no connection"),
            "unclear",
            "unknown: lookup failed: no connection",
        ),
    ],
)
async def test_verdict_follows_from_the_lookup_result(
    lookup_result: LookupResult | CallError, kind: str, words: str
) -> None:
    """It names the tasks."""
    client = FakeDcsClient(lookup_result)

    ((_, verdict),) = await _preview(client, parked_request())

    assert verdict.kind == kind
    assert words in verdict.text
    assert client.since == [parked_request().envelope.first_received_at]


async def test_task_of_a_request_that_may_be_older_is_looked_for_as_the_worker_does() -> None:
    """Its first delivery was lost, so that a task of any age may be its own."""
    client = FakeDcsClient(TaskNotFound())

    await _preview(client, parked_request(headers={**HEADERS, names.MAY_BE_OLDER: True}))

    assert client.since == [0.0]


async def test_no_lookup_if_the_worker_would_do_none() -> None:
    """For an invalid request, an unknown region, and with WORKER_RECONCILE=off."""
    client = FakeDcsClient(TaskNotFound())
    elsewhere = parked_request(BODY.replace(b'"project_id"', b'"region": "far", "project_id"'))

    kinds = [verdict.kind for _, verdict in await _preview(client, parked_request(b"[]"), elsewhere)]
    ((_, off),) = await _preview(client, parked_request(), reconcile="off")

    assert (kinds, off.kind, client.since) == (["invalid", "unclear"], "unclear", [])


async def test_absent_task_is_created_after_the_listing_delay_or_not_after_expiry() -> None:
    """The verdict says when it would be created, or that it would expire."""
    client = FakeDcsClient(TaskNotFound())
    recent = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    late = json.dumps({"project_id": "p", "not_after": "2026-11-01T00:00:00Z", "task": TASK}).encode()

    ((_, delayed),) = await _preview(client, parked_request(headers={**HEADERS, "x-last-sent-at": recent}))
    ((_, expired),) = await _preview(client, parked_request(late))

    assert delayed.kind == "create"
    assert delayed.text.endswith("s at the earliest")
    assert expired.kind == "expire"


async def test_absent_task_of_a_conflict_is_not_said_to_be_created() -> None:
    """After a 409 the worker creates nothing: the replay ends as rejected."""
    conflict = LastError("DCS answers 409", 409, is_conflict=True).text()

    ((_, verdict),) = await _preview(
        FakeDcsClient(TaskNotFound()), parked_request(headers={**HEADERS, names.LAST_ERROR: conflict})
    )

    assert verdict.kind == "reject"


async def test_lookups_are_limited_and_verdicts_are_in_order() -> None:
    """At most MAX_CONCURRENT_LOOKUPS at a time; the order is that of the requests."""
    client = FakeDcsClient(TaskNotFound())
    requests = [parked_request(BODY.replace(b'"r"', b'"r%d"' % number)) for number in range(50)]

    seen = await _preview(client, *requests)

    assert [request_id for request_id, _ in seen] == [f"r{number}" for number in range(50)]
    assert 1 < client.most_at_once <= MAX_CONCURRENT_LOOKUPS


@pytest.mark.parametrize(
    ("bodies", "words"), [((b"7", BODY), "--yes replays these requests."), ((b"7",), "There is nothing to replay.")]
)
async def test_dry_run_ends_with_what_yes_would_do(
    bodies: tuple[bytes, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no valid request stays parked."""
    loaded = load({}, credentials=False)
    preview = ReplayPreview(loaded.settings, FakeDcsClient(TaskNotFound()), Pacer(None))  # type: ignore[arg-type]  # as above
    await _print_verdicts(preview.verdicts(parked_request(body) for body in bodies))
    assert capsys.readouterr().out.endswith(f"1 are invalid. Dry run: nothing was sent. {words}\n")

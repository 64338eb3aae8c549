"""The calls of the service that this worker makes: create, and find by list and detail.

https://support.huaweicloud.com/intl/en-us/api-dcs/CreateOnlineMigrationTask.html
"""

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

import httpx2
from pydantic import BaseModel

from schemas import dcs as bodies
from schemas.dcs import ListReply, TaskDetail, TaskRow
from worker.dcs.auth.auth_method import AuthMethod, CallAuth
from worker.dcs.auth.signing import canonical_url, skew
from worker.dcs.http_client import HEADERS, CallFailedError, HttpClient, new_request
from worker.dcs.stale_answers import StaleAnswers
from worker.policy import backoff, error_table, error_text, task_matching
from worker.policy.call_result import (
    CallError,
    CallStatus,
    ErrorKind,
    Evidence,
    LookupResult,
    TaskCreated,
    TaskFound,
    TaskNotFound,
)
from worker.policy.migration_request import MigrationRequest
from worker.policy.task_matching import Match

ROWS: Final = 1000
"""Rows of a page, the most that the list call allows; halved when a page exceeds the bound of a reply."""
_LEAST_ROWS: Final = 2
"""One row of a page was already on the page before it."""
PAGES: Final = 500
UNFILTERED_PAGES: Final = 4
"""Pages that are read at most without the name filter: a project with more tasks is not looked through."""
REREADS: Final = 3
_INCOMPLETE: Final = f"the list of tasks has more than {PAGES} pages, or its rows moved while it was read"
_INCOMPLETE_LIST: Final = CallError(Evidence.REFUSED, ErrorKind.RETRY, CallStatus.INCOMPLETE_LIST, _INCOMPLETE)
_SHORTEST_CUT: Final = 10
_USUAL_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")
"""What the console allows, in lower case: such a name is kept as it is, and the filter finds it."""

_HEADERS: Final = httpx2.Headers(HEADERS)

T = TypeVar("T", bound=BaseModel)
IsStillAllowed = Callable[[], Awaitable[bool]]


@lru_cache(maxsize=1024)
def _create_url(endpoint: str, project_id: str) -> httpx2.URL:
    # Projects come again and again, and reading a URL is a large part of what a call costs.
    return _url(endpoint, project_id, "/migration/instance")


def _url(endpoint: str, project_id: str, path: str) -> httpx2.URL:
    return httpx2.URL(canonical_url(f"{endpoint}/v2/{project_id}{path}"))


@dataclass(frozen=True, slots=True)
class _Lookup:
    """One look-up: whose, and what was judged so far, by task id."""

    migration: MigrationRequest
    since: float
    on_call: Callable[[], None]
    was_sent: bool
    matches: dict[str, Match] = field(default_factory=dict)
    statuses: dict[str, str | None] = field(default_factory=dict)


class DcsClient:
    """Creates tasks and looks for them, in the regions of `endpoints`."""

    def __init__(
        self,
        http: HttpClient,
        auth_method: AuthMethod,
        endpoints: Mapping[str, str],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._http = http
        self._auth_method = auth_method
        self._endpoints = endpoints
        self._now = now
        self._stale = StaleAnswers()
        self.redactor = http.redactor
        """Removes secrets from what calls prove."""

    async def create(self, migration: MigrationRequest, is_still_allowed: IsStillAllowed) -> TaskCreated | CallError:
        """Create the task of `migration`; `is_still_allowed` is asked right before it is sent.

        Done only with a 2xx that names the task and is surely the answer to this very call.
        """
        results: list[TaskCreated | CallError] = []
        request = new_request(
            "create",
            "POST",
            _create_url(self._endpoints[migration.region], migration.project_id),
            _HEADERS,
            migration.body,
            on_answer=lambda answer: results.append(self._believed(migration, answer)),
            region=migration.region,
        )
        answer = await self._http.send(request, CallAuth(self._auth_method, migration.project_id, is_still_allowed))
        return answer if isinstance(answer, CallError) else results[-1]

    def _believed(self, migration: MigrationRequest, answer: httpx2.Response) -> TaskCreated | CallError:
        """The result that an answer to the create of `migration` proves.

        Raises CallFailedError if it proves nothing, so that its connection is closed: the true answer may follow.
        """
        created = bodies.read_create_reply(answer.content) if answer.is_success else None
        result: TaskCreated | CallError
        if created is None:
            result = self._error_of(answer)
        else:
            result = TaskCreated(created.instance_id, created.job_id, answer.headers.get("x-request-id"))
            result = self.redactor.texts_of(result)
        if (doubt := self._stale.doubt(migration, answer, result)) is not None:
            raise CallFailedError(CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.STALE_ANSWER, doubt))
        if isinstance(result, CallError) and result.is_ambiguous:
            raise CallFailedError(result)
        return result

    async def probe(self, project_id: str, region: str) -> LookupResult | CallError:
        """List one task of the project, for no request: `TaskNotFound` if the service answers."""
        try:
            await self.get("list", project_id, region, "/migration-tasks?limit=1&offset=0", ListReply)
        except CallFailedError as failed:
            return failed.error
        return TaskNotFound()

    async def find(
        self,
        migration: MigrationRequest,
        since: float,
        on_call: Callable[[], None] = lambda: None,
        *,
        may_exist: bool = False,
        was_sent: bool = False,
    ) -> LookupResult | CallError:
        """Look for the task of `migration`; `since`: when the request was first known, 0 if that is unknown.

        The list is filtered by name. If that finds none, and a create may have been sent (`may_exist`) or the name is
        one that the service may keep in another form, the first pages of the unfiltered list are read as well.
        """
        lookup = _Lookup(migration, since, on_call, was_sent)
        try:
            await self._judge_named_rows(lookup)
            is_sure = not may_exist and _USUAL_NAME.fullmatch(migration.task.name)
            if not is_sure and all(match is Match.NO for match in lookup.matches.values()):
                await self._judge_rows(lookup, {}, UNFILTERED_PAGES)
        except CallFailedError as failed:
            return failed.error
        found = task_matching.lookup_result(lookup.matches)
        if isinstance(found, TaskFound):
            found = replace(found, task_status=lookup.statuses[found.instance_id])
        return self.redactor.texts_of(found)

    async def _judge_named_rows(self, lookup: _Lookup) -> None:
        """Judge the rows that the name filter finds, or all if the service refuses the filter.

        A name of a thousand characters beyond ASCII makes a longer URL than many servers read. That the list cannot be
        filtered by it says nothing of the task: whether it may have such a name is for the create call to answer.
        """
        try:
            await self._judge_rows(lookup, {"name": lookup.migration.task.name})
        except CallFailedError as failed:
            if failed.error.http_status not in (400, 414):  # by DCS or by a proxy, which has its limits too
                raise
            await self._judge_rows(lookup, {})

    async def _judge_rows(self, lookup: _Lookup, name_filter: dict[str, str], max_pages: int | None = None) -> None:
        """Judge the rows of a list."""

        async def judge(row: TaskRow) -> None:
            if row.task_id not in lookup.matches:
                lookup.matches[row.task_id], lookup.statuses[row.task_id] = await self._match(lookup, row), row.status

        place = (lookup.migration.project_id, lookup.migration.region)
        await self.read_rows(place, lookup.on_call, name_filter, judge, max_pages)

    async def read_rows(
        self,
        place: tuple[str, str],
        on_call: Callable[[], None],
        name_filter: dict[str, str],
        on_row: Callable[[TaskRow], Awaitable[None]],
        max_pages: int | None = None,
    ) -> None:
        """Read the rows of a list in a project and region, to its end or `max_pages`. Raises CallFailedError.

        Pages overlap by a row. If that is not found again, rows in front of it are gone: the list is read anew.
        """
        limit, offset, overlap, rereads, pages = ROWS, 0, "", 0, 0
        while pages < (max_pages or PAGES):
            rows = await self._page(place, on_call, name_filter, limit, offset)
            if rows is None:
                limit //= 2
                continue
            if overlap and all(row.task_id != overlap for row in rows):
                offset, overlap, rereads, pages = 0, "", rereads + 1, 0
                if rereads > REREADS:
                    raise CallFailedError(_INCOMPLETE_LIST)
                continue
            pages += 1
            for row in rows:
                await on_row(row)
            # Whether `count` is the total is not documented: only a page without a new row is surely past the last one,
            # but a page shorter than the default of 10 rows cannot be a page that the service cut down.
            if len(rows) < min(limit, _SHORTEST_CUT):
                return
            offset, overlap = offset + len(rows) - 1, rows[-1].task_id
        if max_pages is None:
            raise CallFailedError(_INCOMPLETE_LIST)

    async def _page(
        self, place: tuple[str, str], on_call: Callable[[], None], name_filter: dict[str, str], limit: int, offset: int
    ) -> tuple[TaskRow, ...] | None:
        """The rows of a page; None if they exceed the bound of a reply, and fewer are to be asked for."""
        on_call()
        query = urlencode(name_filter | {"limit": str(limit), "offset": str(offset)}, quote_via=quote)
        try:
            return (await self.get("list", *place, f"/migration-tasks?{query}", ListReply)).migration_tasks
        except CallFailedError as failed:
            if failed.error.status is not CallStatus.OVERSIZE or limit < 2 * _LEAST_ROWS:
                raise
            return None

    async def _match(self, lookup: _Lookup, row: TaskRow) -> Match:
        migration, match = lookup.migration, task_matching.row(lookup.migration, row, lookup.since)
        if match is not Match.ASK:
            return match
        lookup.on_call()
        path = f"/migration-task/{quote(row.task_id, safe='')}"
        try:
            detail = await self.get("show", migration.project_id, migration.region, path, TaskDetail)
        except CallFailedError as failed:
            if error_table.is_unknown_task(failed.error):
                return task_matching.without_detail(migration, row)
            raise
        others = self._stale.is_anothers(migration, row.task_id)
        return task_matching.detail(migration, row, detail, lookup.since, was_sent=lookup.was_sent, is_anothers=others)

    async def get(self, operation: str, project_id: str, region: str, path: str, model: type[T]) -> T:
        """The reply of a call that creates nothing. Raises CallFailedError."""
        url = _url(self._endpoints[region], project_id, path)
        request = new_request(operation, "GET", url, _HEADERS, on_answer=self._stale.note, region=region)
        answer = await self._http.send(request, CallAuth(self._auth_method, project_id))
        if isinstance(answer, CallError):
            raise CallFailedError(answer)
        if not answer.is_success:
            raise CallFailedError(self._error_of(answer))
        if (reply := bodies.read_reply(answer.content, model)) is None:
            message = f"the {operation} reply cannot be read"
            raise CallFailedError(CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.UNREADABLE, message))
        return reply

    def _error_of(self, answer: httpx2.Response) -> CallError:
        status, headers, now = answer.status_code, answer.headers, self._now()
        said = self._http.error_of(answer)
        clock_skew = error_text.clock_skew(said.error_msg, skew(headers.get("date"), now))
        text = error_text.read_text(status, said.error_msg, clock_skew)
        row = error_table.row(status, said.error_code, text.condition)
        error = CallError(
            row.evidence,
            row.kind,
            CallStatus.ANSWERED,
            message=self._message(status, headers, said, clock_skew),
            http_status=status,
            error_code=said.error_code,
            error_msg=said.error_msg,
            error_ext_msg=said.error_ext_msg,
            dcs_request_id=headers.get("x-request-id") or said.request_id,
            retry_after=backoff.retry_after(headers.get("retry-after"), now),
            condition=text.condition,
            throttle=text.throttle,
        )
        return self.redactor.texts_of(error)

    def _message(self, status: int, headers: httpx2.Headers, said: bodies.ErrorBody, clock_skew: float | None) -> str:
        """The service's own words, what they leave unsaid, and who answered where it was not the service."""
        why = self._auth_method.explain(clock_skew) if status == 401 else None
        message = why or said.error_msg or f"HTTP {status}"
        if not error_table.is_service_code(said.error_code):
            return error_text.of_unknown_party(status, headers, why or said.error_msg)
        hint = error_text.hint(status, said.error_code, said.error_msg)
        return f"{message} ({hint})" if hint and not why else message

"""The calls of the service that this worker makes: create, and find by list and detail.

https://support.huaweicloud.com/intl/en-us/api-dcs/CreateOnlineMigrationTask.html
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

import httpx2
from pydantic import BaseModel, ValidationError

from schemas import dcs as bodies
from schemas.dcs import ListReply, TaskDetail, TaskRow
from worker.dcs.auth.auth_method import AuthMethod, CallAuth, redacted_body
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
    TaskNotFound,
)
from worker.policy.migration_request import MigrationRequest
from worker.policy.task_matching import Match

PAGE: Final = 200
"""Rows a page of the list call: some 200 KB, well below the bound of a reply."""
PAGES: Final = 500
_SHORTEST_CUT: Final = 10

_HEADERS: Final = httpx2.Headers(HEADERS)

T = TypeVar("T", bound=BaseModel)
IsStillAllowed = Callable[[], Awaitable[bool]]


@lru_cache(maxsize=1024)
def _create_url(endpoint: str, project_id: str) -> httpx2.URL:
    # Projects come again and again, and reading a URL is a large part of what a call costs.
    return _url(endpoint, project_id, "/migration/instance")


def _url(endpoint: str, project_id: str, path: str) -> httpx2.URL:
    return httpx2.URL(canonical_url(f"{endpoint}/v2/{project_id}{path}"))


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
        if (doubt := self._stale.doubt(migration, answer, result)) is not None:
            raise CallFailedError(CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.STALE_ANSWER, doubt))
        if isinstance(result, CallError) and result.is_ambiguous:
            raise CallFailedError(result)
        return result

    async def probe(self, project_id: str, region: str) -> LookupResult | CallError:
        """List one task of the project, for no request: `TaskNotFound` if the service answers."""
        page = await self._get("list", project_id, region, "/migration-tasks?limit=1&offset=0", ListReply)
        return page if isinstance(page, CallError) else TaskNotFound()

    async def find(
        self, migration: MigrationRequest, since: float, on_call: Callable[[], None] = lambda: None
    ) -> LookupResult | CallError:
        """Look for the task of `migration` on all pages; `since`: when the request was first known."""
        found: set[str] = set()
        seen: set[str] = set()
        for _ in range(PAGES):
            on_call()
            rows = await self._page(migration, len(seen))
            if isinstance(rows, CallError):
                return rows
            new = [row for row in rows if row.task_id not in seen]
            seen.update(row.task_id for row in new)
            for row in new:
                match = await self._match(migration, row, since, on_call)
                if isinstance(match, CallError):
                    return match
                if match is Match.YES:
                    found.add(row.task_id)
            # Whether `count` is the total is not documented: only an empty page is surely past the last one,
            # but a page shorter than the default of 10 rows cannot be a page that the service cut down.
            if not new or len(rows) < _SHORTEST_CUT:
                return task_matching.lookup_result(found)
        return CallError(
            Evidence.REFUSED,
            ErrorKind.RETRY,
            CallStatus.TOO_MANY_PAGES,
            f"the list of tasks has more than {PAGES} pages",
        )

    async def _page(self, migration: MigrationRequest, offset: int) -> tuple[TaskRow, ...] | CallError:
        query = urlencode({"limit": PAGE, "name": migration.task.name, "offset": offset}, quote_via=quote)
        page = await self._get("list", migration.project_id, migration.region, f"/migration-tasks?{query}", ListReply)
        return page if isinstance(page, CallError) else page.migration_tasks

    async def _match(
        self, migration: MigrationRequest, row: TaskRow, since: float, on_call: Callable[[], None]
    ) -> Match | CallError:
        match = task_matching.row(migration, row, since)
        if match is not Match.ASK:
            return match
        on_call()
        detail = await self._get(
            "show", migration.project_id, migration.region, f"/migration-task/{quote(row.task_id, safe='')}", TaskDetail
        )
        if not isinstance(detail, CallError):
            return task_matching.detail(migration, detail)
        # A task that the list still shows but the detail call does not know is not there.
        return Match.NO if error_table.is_unknown_task(detail) else detail

    async def _get(self, operation: str, project_id: str, region: str, path: str, model: type[T]) -> T | CallError:
        url = _url(self._endpoints[region], project_id, path)
        request = new_request(operation, "GET", url, _HEADERS, on_answer=self._stale.note)
        answer = await self._http.send(request, CallAuth(self._auth_method, project_id))
        if isinstance(answer, CallError):
            return answer
        if not answer.is_success:
            return self._error_of(answer)
        try:
            return model.model_validate_json(answer.content)
        except ValidationError:
            return CallError(
                Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.UNREADABLE, f"the {operation} reply cannot be read"
            )

    def _error_of(self, answer: httpx2.Response) -> CallError:
        status, headers, now = answer.status_code, answer.headers, self._now()
        said = bodies.read_error(redacted_body(answer))
        text = error_text.read_text(status, said.error_msg, skew(headers.get("date"), now))
        row = error_table.row(status, said.error_code, text.condition)
        why = self._auth_method.explain(headers) if status == 401 else None
        return CallError(
            row.evidence,
            row.kind,
            CallStatus.ANSWERED,
            message=why or said.error_msg or f"HTTP {status}",
            http_status=status,
            error_code=said.error_code,
            error_msg=said.error_msg,
            error_ext_msg=said.error_ext_msg,
            dcs_request_id=headers.get("x-request-id") or said.request_id,
            retry_after=backoff.retry_after(headers.get("retry-after"), now),
            condition=text.condition,
            throttle=text.throttle,
        )

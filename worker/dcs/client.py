"""The calls of the service that this worker makes: create, and find by list and detail.

https://support.huaweicloud.com/intl/en-us/api-dcs/CreateOnlineMigrationTask.html
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

from multidict import CIMultiDict
from pydantic import BaseModel, ValidationError

from schemas import dcs as bodies
from schemas.dcs import ListReply, TaskDetail, TaskRow
from worker.dcs import clock
from worker.dcs.auth.credentials import Credentials
from worker.dcs.echo import without_echo
from worker.dcs.exchange import Exchange
from worker.dcs.message import DCS_HEADERS, Reply, Request, host
from worker.policy import error_table, error_text, recognise, waiting
from worker.policy.fault import CallStatus, Done, Evidence, Fault, Remedy, Sighting
from worker.policy.order import Order
from worker.policy.recognise import Match

PAGE: Final = 200
"""Rows a page of the list call: some 200 KB, well below the bound of a reply."""
PAGES: Final = 500
_SHORTEST_CUT: Final = 10

T = TypeVar("T", bound=BaseModel)
MayGo = Callable[[], Awaitable[bool]]


@lru_cache(maxsize=1024)
def _start(endpoint: str, project_id: str, path: str) -> tuple[str, CIMultiDict[str]]:
    # Projects come again and again.
    url = f"{endpoint}/v2/{project_id}{path}"
    return url, CIMultiDict({"Host": host(url), **DCS_HEADERS})


class DcsClient:
    """Creates tasks and looks for them, in the regions of `endpoints`."""

    def __init__(
        self,
        exchange: Exchange,
        credentials: Credentials,
        endpoints: Mapping[str, str],
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._exchange = exchange
        self._credentials = credentials
        self._endpoints = endpoints
        self._now = now

    async def create(self, order: Order, may_go: MayGo) -> Done | Fault:
        """Create the task of `order`, unless `may_go` forbids it at last. Done only with a 2xx that names it."""
        reply = await self._call("create", order, "POST", "/migration/instance", order.body, may_go)
        if isinstance(reply, Fault):
            return reply
        created = bodies.read_create_reply(reply.body) if 200 <= reply.status < 300 else None
        if created is None:
            return self._fault(reply)
        return Done(created.instance_id, created.job_id, reply.headers.get("x-request-id"))

    async def find(self, order: Order, since: float) -> Sighting | Fault:
        """Look for the task of `order` on all pages; `since`: when the request was first known."""
        found: set[str] = set()
        seen: set[str] = set()
        for _ in range(PAGES):
            rows = await self._page(order, len(seen))
            if isinstance(rows, Fault):
                return rows
            new = [row for row in rows if row.task_id not in seen]
            seen.update(row.task_id for row in new)
            for row in new:
                match = await self._match(order, row, since)
                if isinstance(match, Fault):
                    return match
                if match is Match.YES:
                    found.add(row.task_id)
            # Whether `count` is the total is not documented: only an empty page is surely past the last one,
            # but a page shorter than the default of 10 rows cannot be a page that the service cut down.
            if not new or len(rows) < _SHORTEST_CUT:
                return recognise.sighting(found)
        return Fault(
            Evidence.REFUSED, Remedy.RETRY, CallStatus.TOO_MANY_PAGES, f"the list of tasks has more than {PAGES} pages"
        )

    async def _page(self, order: Order, offset: int) -> tuple[TaskRow, ...] | Fault:
        query = urlencode({"name": order.task.name, "offset": offset, "limit": PAGE}, quote_via=quote)
        page = await self._get("list", order, f"/migration-tasks?{query}", ListReply)
        return page if isinstance(page, Fault) else page.migration_tasks

    async def _match(self, order: Order, row: TaskRow, since: float) -> Match | Fault:
        match = recognise.row(order, row, since)
        if match is not Match.ASK:
            return match
        detail = await self._get("show", order, f"/migration-task/{quote(row.task_id, safe='')}", TaskDetail)
        if not isinstance(detail, Fault):
            return recognise.detail(order, detail)
        # A task that the list still shows but the detail call does not know is not there.
        return Match.NO if error_table.is_unknown_task(detail) else detail

    async def _get(self, operation: str, order: Order, path: str, model: type[T]) -> T | Fault:
        reply = await self._call(operation, order, "GET", path, b"")
        if isinstance(reply, Fault):
            return reply
        if not 200 <= reply.status < 300:
            return self._fault(reply)
        try:
            return model.model_validate_json(reply.body)
        except ValidationError:
            return Fault(
                Evidence.AMBIGUOUS, Remedy.RETRY, CallStatus.UNREADABLE, f"the {operation} reply cannot be read"
            )

    async def _call(
        self, operation: str, order: Order, method: str, path: str, body: bytes, may_go: MayGo | None = None
    ) -> Reply | Fault:
        """One call with credentials, which are renewed once if the service refuses them."""
        request = self._request(order, method, path, body)
        reply = await self._send(operation, order, request, may_go)
        is_refused = isinstance(reply, Reply) and reply.status == 401
        if not is_refused or not await self._credentials.renew(order.project_id, request):
            return reply
        return await self._send(operation, order, self._request(order, method, path, body), may_go)

    def _request(self, order: Order, method: str, path: str, body: bytes) -> Request:
        url, headers = _start(self._endpoints[order.region], order.project_id, path)
        return Request(method, url, headers, body)

    async def _send(self, operation: str, order: Order, request: Request, may_go: MayGo | None) -> Reply | Fault:
        fault = await self._credentials.authorise(request, order.project_id)
        if fault is not None:
            return fault
        if may_go is not None and not await may_go():
            return Fault(Evidence.NEVER_SENT, Remedy.RETRY, CallStatus.STALE, "it came too late to be sent")
        reply = await self._exchange.send(operation, request)
        return reply if isinstance(reply, Fault) else without_echo(reply, request)

    def _fault(self, reply: Reply) -> Fault:
        said = bodies.read_error(reply.body)
        text = error_text.read_text(reply.status, said.error_msg, clock.skew(reply.headers.get("date"), self._now()))
        row = error_table.row(reply.status, said.error_code, text.condition)
        why = self._credentials.explain(reply.headers) if reply.status == 401 else None
        return Fault(
            row.evidence,
            row.kind,
            CallStatus.ANSWERED,
            message=why or said.error_msg or f"HTTP {reply.status}",
            http_status=reply.status,
            error_code=said.error_code,
            error_msg=said.error_msg,
            error_ext_msg=said.error_ext_msg,
            dcs_request_id=reply.headers.get("x-request-id") or said.request_id,
            retry_after=waiting.retry_after(reply.headers.get("retry-after"), self._now()),
            condition=text.condition,
            throttle=text.throttle,
        )

"""Follow-up: looks at created tasks until they are ready, or are known not to become so.

A watch is a separate message, in separate queues. It takes no claim and creates nothing. Order of one delivery:
look, then publish the event or the copy that waits for the next look, then acknowledge (law `confirm-then-ack`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol, TypeVar

from schemas.dcs import JobReply, TaskDetail
from worker.pipeline.ports import CallThrottle, Clock, Delivery, Observer, Publisher
from worker.pipeline.settler import Settler, trace_headers
from worker.policy import error_table, follow_up
from worker.policy.call_result import (
    CallError,
    ErrorKind,
    ErrorScope,
    PostponedError,
    TaskNotFound,
    ThrottleClosedError,
)
from worker.policy.follow_up import FollowUpSettings, LastWord, ListedTask, Verdict, Watch

LOOKS_PER_SECOND: Final = 5.0
"""Calls of one replica, pages of lists included: however many tasks are watched."""
MAX_LIST_AGE_SECONDS: Final = 10.0
UNREADABLE: Final = "A message in the follow-up queue is no watch and is dropped: find out which program published it"
DEFECT: Final = "A look at a created task met a defect of the worker; the task is looked at again later"
UNANSWERED: Final = (
    "A created task could not be looked at ({error}); it is looked at again later, also after its time-out"
)
UNKNOWN_REGION: Final = "A created task cannot be looked at: its region is not in WORKER_DCS_ENDPOINTS; the watch waits"
_REFUSED_LOOKS: Final = (ErrorScope.PROJECT, ErrorScope.REGION)

R = TypeVar("R")


ListedTasks = Mapping[str, ListedTask]
"""By task id."""


class TaskStates(Protocol):
    """Calls of DCS that tell how created tasks stand; they create nothing."""

    async def statuses(self, project_id: str, region: str, on_call: Callable[[], None]) -> ListedTasks | CallError:
        """State of every listed task of the project."""

    async def show(self, watch: Watch) -> TaskDetail | CallError:
        """Detail of the task, without the parts that hold passwords."""

    async def job(self, watch: Watch) -> JobReply | CallError:
        """The job that creates the task."""


@dataclass(slots=True, eq=False)
class _SharedList:
    """The list of one project, read once for all its watches."""

    task: "asyncio.Task[ListedTasks | CallError]"
    started_at: float

    def is_fresh(self, now: float) -> bool:
        """Whether it is being read, or not old."""
        return not self.task.done() or now - self.started_at <= MAX_LIST_AGE_SECONDS


class FollowUp:
    """Handles deliveries of watches."""

    def __init__(
        self,
        calls: TaskStates,
        throttle: CallThrottle,
        publisher: Publisher,
        settler: Settler,
        observer: Observer,
        settings: FollowUpSettings,
        *,
        now: Clock,
    ) -> None:
        self._calls, self._throttle, self._publisher = calls, throttle, publisher
        self._settler, self._observer, self._settings, self._now = settler, observer, settings, now
        self._lists: dict[tuple[str, str], _SharedList] = {}
        self._next_call_at = 0.0

    def __repr__(self) -> str:
        return f"<FollowUp: {len(self._lists)} lists>"

    async def run(self, delivery: Delivery) -> None:
        """Look at the task of a watch; publish its event, or let it wait for the next look; then acknowledge."""
        watch, word = Watch.read(delivery.body, delivery.headers), None
        if watch is None:
            self._observer.note("error", "follow_up.unreadable", message=UNREADABLE, bytes=len(delivery.body))
            await delivery.ack()
            return
        try:
            word = await self._look(watch)
            watch = replace(watch, checks=watch.checks + 1)
        except (PostponedError, ThrottleClosedError):
            pass  # no look, or one without an answer
        except Exception as error:  # noqa: BLE001 - a defect must cost one look, not the watch
            self._observer.note("error", "follow_up.defect", message=DEFECT, error=error)
        publish = self._wait(delivery, watch) if word is None else self._event(delivery, watch, word)
        if await self._settler.publish_then_ack(delivery, publish) and word is not None:
            self._observer.followed_up(watch, word, self._now())

    def is_suspect(self, delivery: Delivery) -> bool:
        """Never: deliveries of watches do not count as poison."""
        return False

    async def postpone(self, delivery: Delivery, why: str) -> None:
        """Let a watch wait for its next look, without one now."""
        if (watch := Watch.read(delivery.body, delivery.headers)) is not None:
            await self._settler.publish_then_ack(delivery, self._wait(delivery, watch))

    def _wait(self, delivery: Delivery, watch: Watch) -> Callable[[], Awaitable[None]]:
        headers = follow_up.headers(watch.success, watch.checks) | trace_headers(delivery.headers)
        correlation_id = delivery.correlation_id
        return partial(self._publisher.watch, delivery.body, watch.checks, headers, correlation_id=correlation_id)

    def _event(self, delivery: Delivery, watch: Watch, word: LastWord) -> Callable[[], Awaitable[None]]:
        event, trace = follow_up.ending(watch, word, self._now()), trace_headers(delivery.headers)
        correlation_id = delivery.correlation_id
        return partial(self._publisher.event, event, correlation_id=correlation_id, reply_to=None, trace=trace)

    async def _look(self, watch: Watch) -> LastWord | None:
        """The last word on the task, if there is one. Raises PostponedError and ThrottleClosedError."""
        if watch.region not in self._settings.regions:
            ids = {"region": watch.region, "task_id": watch.key[1]}
            self._observer.note("warning", "follow_up.unknown_region", message=UNKNOWN_REGION, **ids)
            raise PostponedError(0.0, "region")
        age = self._now() - watch.succeeded_at
        is_late = age >= self._settings.timeout
        listed = await self._list(watch)
        task = None if isinstance(listed, CallError) else listed.get(watch.success.instance_id)
        verdict = follow_up.by_status(task.status) if task is not None else None
        if task is not None and verdict == "gone":
            return LastWord("gone", task.status, fail_reason=task.error_message)
        if task is not None and verdict == "failed":
            return await self._failed(watch, task.status, task.error_message, is_late=is_late)
        if task is not None and verdict == "provisioned" and task.ecs_tenant_private_ip:
            return LastWord("provisioned", task.status, task.ecs_tenant_private_ip)
        if is_late or verdict is not None:
            return await self._detail(watch, task.status if task else None, verdict, is_late=is_late)
        if task is None and not isinstance(listed, CallError) and age >= self._settings.listing_delay:
            return await self._detail(watch, None, None, is_late=False)  # deleted, or the list lags
        return None

    async def _failed(self, watch: Watch, status: str | None, message: str | None, *, is_late: bool) -> LastWord:
        """A task in an error state: its job says why, and may say that it was ready before."""
        job: JobReply | CallError | None = None
        try:
            job = await self._ask(watch, self._calls.job) if watch.success.job_id else None
        except PostponedError:
            if not is_late:  # else what is known is enough
                raise
        if job is None or isinstance(job, CallError):
            return LastWord("failed", status, fail_reason=message)
        verdict = follow_up.by_job(job) or "failed"
        return LastWord(verdict, status, fail_reason=job.fail_reason or message)

    async def _detail(
        self, watch: Watch, status: str | None, verdict: Verdict | None, *, is_late: bool
    ) -> LastWord | None:
        """The last word by detail and job; after the deadline there is one in any case."""
        detail = await self._ask(watch, self._calls.show)
        if isinstance(detail, CallError):
            if error_table.is_unknown_task(detail) and verdict is None:
                return LastWord("gone", status)
        else:
            status = detail.status or status
            verdict = verdict or follow_up.by_status(detail.status)
        if verdict is None and is_late and watch.success.job_id:
            job = await self._ask(watch, self._calls.job)
            if not isinstance(job, CallError) and (said := follow_up.by_job(job)) is not None:
                return LastWord(said, status, fail_reason=job.fail_reason)
        if verdict is None:
            return LastWord("timeout", status) if is_late else None
        if verdict == "failed":
            return await self._failed(watch, status, None, is_late=is_late)
        address = None if isinstance(detail, CallError) else detail.ecs_tenant_private_ip
        return LastWord(verdict, status, address)

    async def _list(self, watch: Watch) -> ListedTasks | CallError:
        """The list of the watch's project, which all its watches share."""
        key, now = (watch.region, watch.project_id), asyncio.get_running_loop().time()
        shared = self._lists.get(key)
        if shared is None or not shared.is_fresh(now):
            self._lists = {place: known for place, known in self._lists.items() if known.is_fresh(now)}
            task = asyncio.get_running_loop().create_task(self._read_list(watch, key))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # its error is for the watches
            shared = self._lists[key] = _SharedList(task, now)
        return await asyncio.shield(shared.task)

    async def _read_list(self, watch: Watch, key: tuple[str, str]) -> ListedTasks | CallError:
        async def read(_: Watch, on_call: Callable[[], None]) -> ListedTasks | CallError:
            self._lists[key].started_at = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(self._settings.list_timeout):
                    return await self._calls.statuses(watch.project_id, watch.region, on_call)
            except TimeoutError:
                raise PostponedError(0.0, "timeout") from None

        return await self._call(watch, read)

    async def _ask(self, watch: Watch, ask: Callable[[Watch], Awaitable[R | CallError]]) -> R | CallError:
        """The answer of one call."""

        async def call(watch: Watch, on_call: Callable[[], None]) -> R | CallError:
            on_call()
            return await ask(watch)

        return await self._call(watch, call)

    async def _call(
        self, watch: Watch, call: Callable[[Watch, Callable[[], None]], Awaitable[R | CallError]]
    ) -> R | CallError:
        """Make a call, or a list of several, at its turn. Raises PostponedError if it may not begin, or no answer came.

        That a look is refused is not learnt by the throttle: it must not hold the creates of its project or region.
        """
        clock = asyncio.get_running_loop().time
        turn = max(self._next_call_at, clock())
        self._next_call_at = turn + 1.0 / LOOKS_PER_SECOND
        if turn > clock() and not await self._throttle.wait_unless_closed(turn - clock()):
            raise ThrottleClosedError
        calls = 0
        async with self._throttle.permit(watch, 1, is_spare=True) as permit:

            def on_call() -> None:
                nonlocal calls
                calls += 1
                self._next_call_at += 1.0 / LOOKS_PER_SECOND if calls > 1 else 0.0
                permit.begin_call()

            result = await call(watch, on_call)
            if not isinstance(result, CallError):
                permit.ended(TaskNotFound())
            elif result.kind is ErrorKind.THROTTLED or error_table.scope(result) not in _REFUSED_LOOKS:
                permit.ended(result)
        if isinstance(result, CallError) and not follow_up.is_answer(result):
            if result.kind is not ErrorKind.THROTTLED:
                ids = {"region": watch.region, "project_id": watch.project_id, "task_id": watch.key[1]}
                message = UNANSWERED.format(error=result.description)
                self._observer.note("warning", "follow_up.unanswered", message=message, **ids)
            raise PostponedError(0.0, result.label)
        return result

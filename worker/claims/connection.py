"""The connection to Redis: shared by all calls, kept up in the background, on redis-py's public interface.

Commands that are asked for while one exchange is under way travel together in the next, as one pipeline: one
connection serves hundreds of requests at once, in order, and costs a quarter of a round trip for each.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from worker.claims.client import client_factory, close, connect, describe, is_of_one_record, is_sha_refused
from worker.claims.scripts import MEMORY_KEY, SCRIPTS, ScriptCall

BATCH_LIMIT: Final = 64
CHECK_SECONDS: Final = 1.0
"""An idle connection is read from so often: a Redis that restarted may have forgotten claims that are held."""
BUSY_LOOP_SECONDS: Final = 0.05
"""How long a reply may lie in the socket of a busy event loop."""
RETRY_SECONDS: Final = 0.5
"""At least, and at most twice as long, from a failure to the next attempt."""
STEADY_SECONDS: Final = 5.0
"""After a session that lasted so long the next attempt is made at once."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NoReply:
    """Redis did not answer a command, or refused it."""

    reason: str


Reply = bytes | int | None | NoReply


class RedisAnswer(NamedTuple):
    """The reply to a command, and the value of MEMORY_KEY right after it."""

    reply: Reply
    memory: object = None


class ClaimsObserver(Protocol):
    """Receives what changes about the claims."""

    def claims_available(self, is_available: bool, reason: str) -> None:
        """Redis can be used from now on, or not any more; called only when that changes."""
        ...

    def claims_doubted(self, seconds: float) -> None:
        """Redis is new or forgot its records: for so many seconds every request is looked for before it is created."""
        ...

    def claims_record_doubted(self, project_id: str, request_id: str) -> None:
        """The record of a request was none that a worker can have written, and was replaced by a claim."""
        ...


class RedisSession:
    """One open connection. `run` exchanges commands and replies for as long as it is awaited."""

    def __init__(self, client: Redis, timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._clock = asyncio.get_running_loop().time
        self._scripts = {text: client.register_script(text) for text in SCRIPTS}
        self._is_sha_accepted = True
        self._waiting: list[tuple[ScriptCall, asyncio.Future[RedisAnswer], float]] = []
        self._under_way: list[tuple[ScriptCall, asyncio.Future[RedisAnswer], float]] = []
        self._has_waiting = asyncio.Event()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Resolves to the reason."""

    def __repr__(self) -> str:
        return f"<RedisSession: {'ended' if self.ended.done() else 'open'}, {len(self._waiting)} waiting>"

    def ask(self, command: ScriptCall) -> asyncio.Future[RedisAnswer]:
        """The answer to `command`, within the timeout."""
        answer: asyncio.Future[RedisAnswer] = asyncio.get_running_loop().create_future()
        if self.ended.done():
            answer.set_result(RedisAnswer(NoReply(self.ended.result())))
        else:
            self._waiting.append((command, answer, self._clock() + self._timeout))
            self._has_waiting.set()
        return answer

    def end(self, reason: str) -> None:
        """Use the connection no more; what waits is answered now."""
        if self.ended.done():
            return
        self.ended.set_result(reason)
        for _, answer, _ in (*self._under_way, *self._waiting):
            _resolve(answer, RedisAnswer(NoReply(reason)))

    async def run(self) -> None:
        """Exchange batches until one fails. A command of which it is not known whether it arrived is never repeated."""
        try:
            while not self.ended.done():
                if not self._waiting:
                    self._has_waiting.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(CHECK_SECONDS):
                            await self._has_waiting.wait()
                self._under_way, self._waiting = self._waiting[:BATCH_LIMIT], self._waiting[BATCH_LIMIT:]
                due = self._under_way[0][2] if self._under_way else self._clock() + self._timeout
                await self._exchange(due)
        except Exception as error:  # noqa: BLE001 - the next session is the remedy for any error of this one
            self.end(describe(error))

    async def _exchange(self, due: float) -> None:
        """Send the commands that are under way, and hand each its answer."""
        commands = [command for command, _, _ in self._under_way]
        replies, memory = await _in_time(self._replies(commands), due - self._clock())
        refusals = [reply for reply in replies if isinstance(reply, ResponseError) and not is_of_one_record(reply)]
        for (_, answer, _), reply in zip(self._under_way, replies, strict=True):
            is_refused = isinstance(reply, ResponseError)
            _resolve(answer, RedisAnswer(NoReply(describe(reply)) if is_refused else reply, memory))
        self._under_way = []
        if refusals:  # the next command would be refused as well
            self.end(describe(refusals[0]))

    async def _replies(self, commands: Sequence[ScriptCall]) -> tuple[list[Any], object]:
        replies, memory = await self._pipeline(commands, by_sha=self._is_sha_accepted)
        refused = [index for index, reply in enumerate(replies) if is_sha_refused(reply)]
        if refused and self._is_sha_accepted:
            # Sent whole a script is loaded too, which takes no right and no support of a proxy beyond EVAL.
            self._is_sha_accepted = all(isinstance(replies[index], NoScriptError) for index in refused)
            repeated, memory = await self._pipeline([commands[index] for index in refused], by_sha=False)
            for index, reply in zip(refused, repeated, strict=True):
                replies[index] = reply
        return replies, memory

    async def _pipeline(self, commands: Sequence[ScriptCall], *, by_sha: bool) -> tuple[list[Any], object]:
        # A registered script that is called with a pipeline would cost a second round trip, for SCRIPT EXISTS.
        pipeline = self._client.pipeline(transaction=False)
        for text, arguments in commands:
            script = self._scripts[text]
            if by_sha:
                pipeline.evalsha(script.sha, 1, *arguments)
            else:
                pipeline.eval(text, 1, *arguments)
        pipeline.get(MEMORY_KEY)
        *replies, memory = await pipeline.execute(raise_on_error=False)
        return replies, memory


class RedisConnection:
    """Keeps one session up for as long as `run` is awaited; no call waits for one.

    `prepare(session, is_new)` is awaited before a new session is used, and every so often on the current one; it
    returns the reason if Redis is of no use.
    """

    def __init__(
        self,
        url: str,
        prepare: Callable[[RedisSession, bool], Awaitable[str | None]],
        observer: ClaimsObserver,
        *,
        timeout: float,
        every: float,
    ) -> None:
        self._make_client = client_factory(url)
        self._prepare = prepare
        self._observer = observer
        self._timeout = timeout
        self._every = every
        self._session: RedisSession | None = None
        self._was_available: bool | None = None
        self.has_tried = asyncio.Event()
        """Set once the first attempt has succeeded or failed."""

    def __repr__(self) -> str:
        return f"<RedisConnection: {self._session!r}>"

    @property
    def is_available(self) -> bool:
        """Whether Redis can be asked."""
        return self._session is not None and not self._session.ended.done()

    async def ask(self, command: ScriptCall) -> RedisAnswer:
        """The answer to `command`, at once if Redis is away."""
        session = self._session
        return await session.ask(command) if session is not None else RedisAnswer(NoReply("Redis is away"))

    async def run(self) -> None:
        """Session after session."""
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            try:
                reason = await self._use_session()
            except Exception as error:  # noqa: BLE001 - as above
                reason = describe(error)
            self._report(False, reason)
            if clock() - started < STEADY_SECONDS:
                await asyncio.sleep(RETRY_SECONDS * (1 + random.random()))

    async def _use_session(self) -> str:
        client = self._make_client()
        try:
            await connect(client)
            session = RedisSession(client, self._timeout)
            running = asyncio.create_task(session.run(), name="claims session")
            try:
                return await self._keep_ready(session)
            finally:
                self._session = None
                session.end("the connection was closed")
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
        finally:
            await close(client)

    async def _keep_ready(self, session: RedisSession) -> str:
        reason = await self._prepare(session, True)
        if reason is None:
            self._session = session
            self._report(True, "Redis answers")
        while reason is None:
            await asyncio.wait((session.ended,), timeout=self._every)
            reason = session.ended.result() if session.ended.done() else await self._prepare(session, False)
        return reason

    def _report(self, is_available: bool, reason: str) -> None:
        self.has_tried.set()
        if is_available is not self._was_available:
            self._was_available = is_available
            self._observer.claims_available(is_available, reason)


def _resolve(answer: asyncio.Future[RedisAnswer], value: RedisAnswer) -> None:
    if not answer.done():  # its caller may have been cancelled
        answer.set_result(value)


async def _in_time(work: Coroutine[Any, Any, T], seconds: float) -> T:
    """The result of `work`, or TimeoutError. A reply that a busy event loop did not read yet came in time."""
    task = asyncio.create_task(work)
    try:
        for wait in (seconds - BUSY_LOOP_SECONDS, BUSY_LOOP_SECONDS):
            if (await asyncio.wait((task,), timeout=max(0.0, wait)))[0]:
                return task.result()
        raise TimeoutError
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

"""Comparison of the broker's exchanges and queues with the configured topology; it changes nothing.

A passive declare only says whether something exists; its arguments are not compared. So what a passive declare
found is declared once more as configured: that changes nothing where it is equal, and is refused where it is not.
Bindings and policies, which AMQP does not show, are in `management.py`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from shlex import quote
from typing import Final

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed
from pamqp.commands import Queue as QueueFrames

from schemas import names
from worker.policy.diagnostics import Check, FailureKind, OnCheck, Problem, failed, ok, unchecked, warning
from worker.rabbit.tools.broker_access import Node, ask, no_answer
from worker.rabbit.topology import Exchange, Queue, Topology, declare_on, difference, follow_up_queues

APPLY: Final = "dcs-worker topology apply"
_TARGET: Final = "x-dead-letter-routing-key"


@dataclass(frozen=True, slots=True)
class DeclareResult:
    """What two declares of one exchange or queue found; `check` is None if it does not exist.

    `is_hidden`: this user cannot see whether it exists. `may_configure` and `counts` are None if unknown.
    """

    item: Exchange | Queue
    check: Check | None
    may_configure: bool | None = None
    counts: QueueFrames.DeclareOk | None = None
    is_hidden: bool = False

    @property
    def title(self) -> str:
        """Its kind and name."""
        return f"{self.item.kind} {self.item.name}"


async def check_topology(
    connection: AbstractConnection, topology: Topology, node: Node, on_check: OnCheck
) -> int | None:
    """Report every exchange and queue; return the number of consumers of the requests queue, None if unknown."""
    found = await asyncio.gather(*(_compare(connection, node, item) for item in topology.items))
    for result in found:
        if result.check is not None:
            on_check(result.check)
    if missing := [result.title for result in found if result.check is None]:
        on_check(_missing(missing, found))
    on_check(_check_dead_letters(topology, found))
    numbered = [f"{topology.requests_queue}{names.RETRY_INFIX}{number}" for number in range(1, 10)]  # by 0.1.0
    for name, count in zip(
        numbered, await asyncio.gather(*(count_ready(connection, name) for name in numbered)), strict=True
    ):
        if count == 0:
            on_check(unscheduled(name, node))
    if not topology.follow_up_queues:
        await _check_waiting_watches(connection, topology.requests_queue, on_check)
    counts = {result.item.name: result.counts for result in found if result.counts is not None}
    parked, requests = (
        counts.get(name) for name in (names.parked_queue(topology.requests_queue), topology.requests_queue)
    )
    if parked is not None and parked.message_count:
        on_check(parked_requests(parked.message_count))
    return requests.consumer_count if requests is not None else None


def parked_requests(count: int) -> Check:
    """The finding for a parked queue that is not empty."""
    found = "1 request needs an operator" if count == 1 else f"{count:,} requests need an operator"
    return warning("parked requests", found, "dcs-worker parked list")


async def _check_waiting_watches(connection: AbstractConnection, requests_queue: str, on_check: OnCheck) -> None:
    """Report queues with watches that no worker looks at."""
    queues = [queue.name for queue in follow_up_queues(requests_queue)]
    for name, count in zip(
        queues, await asyncio.gather(*(count_ready(connection, name) for name in queues)), strict=True
    ):
        if count:
            found = f"created tasks that wait to be followed up: {count}; WORKER_FOLLOW_UP is off here"
            on_check(warning("queue", found, "set WORKER_FOLLOW_UP=true, or delete the queue", subject=name))


async def count_ready(connection: AbstractConnection, name: str) -> int | None:
    """Messages ready in a queue; None if it does not exist, or cannot be seen."""
    answer = await ask(connection, partial(declare_on, item=Queue(name), passive=True))
    return answer.message_count if isinstance(answer, QueueFrames.DeclareOk) else None


def unscheduled(name: str, node: Node) -> Check:
    """The finding for an empty retry queue that no delay of the schedule needs."""
    remedy = f"rabbitmqctl delete_queue -p {quote(node.vhost)} {quote(name)}"
    return warning("queue", "is empty, and no delay of WORKER_RETRY_DELAYS needs it", remedy, subject=name)


async def _compare(connection: AbstractConnection, node: Node, item: Exchange | Queue) -> DeclareResult:
    kind, name = item.kind, item.name
    present = await ask(connection, partial(declare_on, item=item, passive=True))
    match present:
        case ChannelNotFoundEntity() if "NOT_FOUND - no " in str(present):
            return DeclareResult(item, None)
        case ChannelNotFoundEntity():  # "home node ... is down or inaccessible"
            return _unreachable(item, Problem(str(present)[:300], _quorum_remedy(name)))
        case ChannelAccessRefused():  # since 4.x a user without any right to it cannot see whether it exists
            found = "this user has no right to it, so it cannot be seen"
            check = unchecked(kind, found, _list_command(kind, node), subject=name)
            return DeclareResult(item, check, may_configure=False, is_hidden=True)
        case TimeoutError():
            found = f"{no_answer(present).found}: it may have lost its quorum"
            return _unreachable(item, Problem(found, _quorum_remedy(name)))
        case Exception():
            return _unreachable(item, no_answer(present))
    counts = present if isinstance(present, QueueFrames.DeclareOk) else None
    return _compared(item, await ask(connection, partial(declare_on, item=item)), counts, node)


def _compared(
    item: Exchange | Queue, answer: object, counts: QueueFrames.DeclareOk | None, node: Node
) -> DeclareResult:
    """The result for one that exists, by the answer to its declaration as configured."""
    kind, name, counted = item.kind, item.name, ""
    if counts is not None:
        counted = f"; messages ready: {counts.message_count:,}, consumers: {counts.consumer_count}"
    match answer:
        case ChannelPreconditionFailed():
            found, _, _ = difference(str(answer)).partition("; ")
            remedy = _difference_remedy(kind, name, node, str(answer))
            check = failed(kind, found, remedy, subject=name, failure_kind=FailureKind.CONFIGURATION)
        case ChannelAccessRefused():
            found = f"exists{counted}; this user may not configure it, so it cannot be compared"
            check = unchecked(kind, found, _list_command(kind, node), subject=name)
            return DeclareResult(item, check, may_configure=False, counts=counts)
        case Exception():
            return _unreachable(item, no_answer(answer))
        case _:
            check = ok(kind, f"exists, as configured{counted}", subject=name)
    return DeclareResult(item, check, may_configure=True, counts=counts)


def _unreachable(item: Exchange | Queue, problem: Problem) -> DeclareResult:
    kind = FailureKind.UNREACHABLE
    return DeclareResult(item, failed(item.kind, problem.found, problem.remedy, subject=item.name, failure_kind=kind))


def _list_command(kind: str, node: Node) -> str:
    columns = "name type durable" if kind == "exchange" else "name durable arguments"
    return f"rabbitmqctl list_{kind}s -p {quote(node.vhost)} {columns}"


def _quorum_remedy(name: str) -> str:
    return f"start the broker's other nodes; `rabbitmq-queues quorum_status {quote(name)}` shows which are missing"


def _difference_remedy(kind: str, name: str, node: Node, refusal: str) -> str:
    if kind == "exchange":
        return f"choose another name for it, or, with no sender using it, delete the exchange and `{APPLY}`"
    vhost, setting = quote(node.vhost), "set WORKER_RETRY_DELAYS to it, or, " if "x-message-ttl" in refusal else ""
    return (
        f"{setting}once `rabbitmqctl list_queues -p {vhost} name messages` shows it empty: "
        f"rabbitmqctl delete_queue -p {vhost} {quote(name)} && {APPLY}"
    )


def _missing(missing: Sequence[str], found: Sequence[DeclareResult]) -> Check:
    listed, rights = ", ".join(missing), [result.may_configure for result in found if result.may_configure is not None]
    if rights and not all(rights):
        remedy = f"{APPLY}, with a WORKER_AMQP_URL whose user may configure"
        return failed("topology", f"missing, and this user may not declare it: {listed}", remedy)
    return failed("topology", f"missing: {listed}; a worker with the permission creates it at its start", APPLY)


def _check_dead_letters(topology: Topology, found: Sequence[DeclareResult]) -> Check:
    """All dead letters go through the default exchange, which routes to every queue that exists."""
    name, queues = "dead letters", {result.item.name: result for result in found if result.item.kind == "queue"}
    existing = {queue for queue, result in queues.items() if result.check is not None}
    visible = {queue for queue in existing if not queues[queue].is_hidden}
    targets = {queue.name: queue.arguments[_TARGET] for queue in topology.queues if _TARGET in queue.arguments}
    used = {queue: target for queue, target in targets.items() if queue in visible}
    if not used:
        return unchecked(name, "no queue with dead letters exists")
    if closed := [f"{queue} to {target}" for queue, target in used.items() if target not in existing]:
        return failed(name, f"there is no target, so messages stay where they are: {', '.join(closed)}", APPLY)
    return ok(name, f"route to {' and '.join(sorted(set(used.values())))}")

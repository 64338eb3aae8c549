"""Checks of the broker, second half: whether what the worker needs is there, and as wanted.

A passive declare only says whether something is there; its arguments are not compared. So what a passive declare
found is declared once more as wanted: that changes nothing where it is equal, and is refused where it is not.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from shlex import quote
from typing import Any, Final

from aio_pika.abc import AbstractConnection
from aiormq import Channel
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed
from pamqp.commands import Queue as QueueFrames

from worker.policy.diagnostics import Check, FailureKind, OnCheck, Problem, failed, ok, unchecked
from worker.rabbit.connection import RPC_TIMEOUT_SECONDS
from worker.rabbit.tools.login import Node, answer, lost
from worker.rabbit.topology import Exchange, Queue, Topology, difference

APPLY: Final = "dcs-worker topology apply"
KEY: Final = "x-dead-letter-routing-key"


@dataclass(frozen=True, slots=True)
class DeclareResult:
    """What became of one question; no `check` where there is nothing of this name, `is_hidden` where none may see."""

    name: str
    check: Check | None
    may_configure: bool | None = None
    consumers: int | None = None
    is_hidden: bool = False


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is there, by name; `hidden`: what may be there. `consumers` of the requests queue, if they were counted."""

    exchanges: frozenset[str]
    queues: frozenset[str]
    hidden: frozenset[str]
    may_configure: bool | None
    consumers: int | None


async def check_topology(connection: AbstractConnection, plan: Topology, node: Node, tell: OnCheck) -> Inventory:
    """Compare what is there with `plan`."""
    exchanges, queues = await asyncio.gather(
        asyncio.gather(*(_exchange(connection, one, node) for one in plan.exchanges)),
        asyncio.gather(*(_queue(connection, one, node) for one in plan.queues)),
    )
    seen = [*exchanges, *queues]
    for check in [one.check for one in seen if one.check is not None]:
        tell(check)
    found = Inventory(
        exchanges=_names(exchanges),
        queues=_names(queues),
        hidden=frozenset(one.name for one in seen if one.is_hidden),
        may_configure=_agreed([one.may_configure for one in seen]),
        consumers=next(one.consumers for one in queues if one.name == requests_queue(plan)),
    )
    if missing := _missing(plan, found):
        tell(missing)
    tell(_check_dead_letters(plan, found))
    return found


def requests_queue(plan: Topology) -> str:
    """The queue that requests are consumed from."""
    return plan.bindings[0].queue


def _names(seen: Sequence[DeclareResult]) -> frozenset[str]:
    return frozenset(one.name for one in seen if one.check is not None and not one.is_hidden)


def _agreed(votes: list[bool | None]) -> bool | None:
    known = [vote for vote in votes if vote is not None]
    return all(known) if known else None


async def _exchange(connection: AbstractConnection, exchange: Exchange, node: Node) -> DeclareResult:
    arguments = {"exchange_type": exchange.type, "durable": True}
    return await _seen(connection, "exchange", exchange.name, arguments, node)


async def _queue(connection: AbstractConnection, queue: Queue, node: Node) -> DeclareResult:
    arguments = {"durable": True, "arguments": queue.all_arguments}
    return await _seen(connection, "queue", queue.name, arguments, node)


async def _seen(
    connection: AbstractConnection, kind: str, name: str, arguments: Mapping[str, Any], node: Node
) -> DeclareResult:
    there = await answer(connection, partial(_declare, kind, name, {"passive": True}))
    match there:
        case ChannelNotFoundEntity() if "NOT_FOUND - no " in str(there):
            return DeclareResult(name, None)
        case ChannelNotFoundEntity():  # "home node ... is down or inaccessible"
            return _silent(kind, name, Problem(str(there)[:300], _quorum_remedy(name)))
        case ChannelAccessRefused():  # since 4.x a user without any right to it is not told that it is there
            found = "this user has no right to it, so it cannot be seen"
            check = unchecked(kind, found, _listing(kind, node), subject=name)
            return DeclareResult(name, check, may_configure=False, is_hidden=True)
        case TimeoutError():
            found = f"{lost(there).found}: it may have lost its quorum"
            return _silent(kind, name, Problem(found, _quorum_remedy(name)))
        case Exception():
            return _silent(kind, name, lost(there))
    counts = there if isinstance(there, QueueFrames.DeclareOk) else None
    equal = await answer(connection, partial(_declare, kind, name, arguments))
    return _compared(kind, name, equal, counts, node)


def _silent(kind: str, name: str, hurdle: Problem) -> DeclareResult:
    return DeclareResult(
        name, failed(kind, hurdle.found, hurdle.remedy, subject=name, failure_kind=FailureKind.UNREACHABLE)
    )


async def _declare(kind: str, name: str, arguments: Mapping[str, Any], channel: Channel) -> object:
    return await getattr(channel, f"{kind}_declare")(name, **arguments, timeout=RPC_TIMEOUT_SECONDS)


def _compared(kind: str, name: str, equal: object, counts: QueueFrames.DeclareOk | None, node: Node) -> DeclareResult:
    consumers = counts.consumer_count if counts is not None else None
    match equal:
        case ChannelPreconditionFailed():
            found, remedy = difference(str(equal)).partition("; ")[0], _difference_remedy(kind, name, node, str(equal))
            check = failed(kind, found, remedy, subject=name, failure_kind=FailureKind.CONFIGURATION)
            return DeclareResult(name, check, may_configure=True, consumers=consumers)
        case ChannelAccessRefused():
            found = f"is there{_counted(counts)}; this user may not configure it, so it cannot be compared"
            check = unchecked(kind, found, _listing(kind, node), subject=name)
            return DeclareResult(name, check, may_configure=False, consumers=consumers)
        case Exception():
            return _silent(kind, name, lost(equal))
    check = ok(kind, f"is there, as wanted{_counted(counts)}", subject=name)
    return DeclareResult(name, check, may_configure=True, consumers=consumers)


def _counted(counts: QueueFrames.DeclareOk | None) -> str:
    if counts is None:
        return ""
    return f"; messages ready: {counts.message_count}, consumers: {counts.consumer_count}"


def _listing(kind: str, node: Node) -> str:
    columns = "name type durable" if kind == "exchange" else "name durable arguments"
    return f"rabbitmqctl list_{kind}s -p {quote(node.vhost)} {columns}"


def _quorum_remedy(name: str) -> str:
    return f"start the broker's other nodes; `rabbitmq-queues quorum_status {quote(name)}` shows which are missing"


def _difference_remedy(kind: str, name: str, node: Node, said: str) -> str:
    if kind == "exchange":
        return f"choose another name for it, or, with no sender using it, delete the exchange and `{APPLY}`"
    vhost, setting = quote(node.vhost), "set WORKER_RETRY_DELAYS to it, or, " if "x-message-ttl" in said else ""
    return (
        f"{setting}once `rabbitmqctl list_queues -p {vhost} name messages` shows it empty: "
        f"rabbitmqctl delete_queue -p {vhost} {quote(name)} && {APPLY}"
    )


def _missing(plan: Topology, found: Inventory) -> Check | None:
    kinds = (("exchange", plan.exchanges, found.exchanges), ("queue", plan.queues, found.queues))
    there = [
        f"{kind} {one.name}" for kind, wanted, seen in kinds for one in wanted if one.name not in seen | found.hidden
    ]
    if not there:
        return None
    if found.may_configure is False:
        text = f"missing, and this user may not declare it: {', '.join(there)}"
        return failed("topology", text, f"{APPLY}, with a WORKER_AMQP_URL whose user may configure")
    return failed("topology", f"missing: {', '.join(there)}; a worker that may declares it at its start", APPLY)


def _check_dead_letters(plan: Topology, found: Inventory) -> Check:
    """All dead letters go through the default exchange, which routes to every queue that there is."""
    name, seen = "dead letters", found.queues | found.hidden
    ways = {queue.name: queue.arguments[KEY] for queue in plan.queues if KEY in queue.arguments}
    used = {queue: target for queue, target in ways.items() if queue in found.queues}
    if not used:
        return unchecked(name, "no queue is there that has any")
    if closed := [f"{queue} to {target}" for queue, target in used.items() if target not in seen]:
        return failed(name, f"there is no target, so messages stay where they are: {', '.join(closed)}", APPLY)
    return ok(name, f"route to {' and '.join(sorted(set(used.values())))}")

"""Comparison of the broker's exchanges, queues, bindings and policies with the configured topology; it changes nothing.

A passive declare only says whether something exists; its arguments are not compared. So what a passive declare
found is declared once more as configured: that changes nothing where it is equal, and is refused where it is not.
Bindings and policies, which AMQP does not show, come from the management API, where only GET is ever sent
(https://www.rabbitmq.com/docs/management#http-api).
"""

import asyncio
import json
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from shlex import quote
from typing import Any, Final
from urllib.parse import quote as url_quote

import httpx2
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed
from pamqp.commands import Queue as QueueFrames

from schemas import names
from worker.policy.diagnostics import Check, FailureKind, OnCheck, Problem, failed, ok, unchecked, warning
from worker.rabbit.tools.broker_access import BrokerError, Node, ask, no_answer
from worker.rabbit.topology import Exchange, Queue, Topology, declare_on, difference, follow_up_queues

APPLY: Final = "dcs-worker topology apply"
_TARGET: Final = "x-dead-letter-routing-key"
API_TIMEOUT_SECONDS: Final = 10.0
MAX_API_ANSWER_BYTES: Final = 4 << 20
_COLUMNS: Final = "name,messages,policy,operator_policy,effective_policy_definition"
_HARMFUL: Final = (
    *("message-ttl", "expires", "max-length", "max-length-bytes", "max-in-memory-length", "overflow", "delivery-limit"),
    *("dead-letter-exchange", "dead-letter-routing-key", "dead-letter-strategy"),
)
"""Keys of policies that make a queue lose, park or refuse messages in another way than it was declared to."""


@dataclass(frozen=True, slots=True)
class DeclareResult:
    """What two declares of one exchange or queue found; `check` is None if it does not exist.

    `is_hidden`: this user cannot see whether it exists. `may_configure` and `consumers` are None if unknown.
    """

    item: Exchange | Queue
    check: Check | None
    may_configure: bool | None = None
    consumers: int | None = None
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
        numbered, await asyncio.gather(*(_count(connection, name) for name in numbered)), strict=True
    ):
        if count == 0:
            on_check(unscheduled(name, node))
    if not topology.follow_up_queues:
        await _check_waiting_watches(connection, topology.requests_queue, on_check)
    return next(result.consumers for result in found if result.title == f"queue {topology.requests_queue}")


async def _check_waiting_watches(connection: AbstractConnection, requests_queue: str, on_check: OnCheck) -> None:
    """Report queues with watches that no worker looks at."""
    queues = [queue.name for queue in follow_up_queues(requests_queue)]
    for name, count in zip(queues, await asyncio.gather(*(_count(connection, name) for name in queues)), strict=True):
        if count:
            found = f"created tasks that wait to be followed up: {count}; WORKER_FOLLOW_UP is off here"
            on_check(warning("queue", found, "set WORKER_FOLLOW_UP=true, or delete the queue", subject=name))


async def _count(connection: AbstractConnection, name: str) -> int | None:
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
    kind, name, consumers, counted = item.kind, item.name, None, ""
    if counts is not None:
        consumers = counts.consumer_count
        counted = f"; messages ready: {counts.message_count}, consumers: {consumers}"
    match answer:
        case ChannelPreconditionFailed():
            found, _, _ = difference(str(answer)).partition("; ")
            remedy = _difference_remedy(kind, name, node, str(answer))
            check = failed(kind, found, remedy, subject=name, failure_kind=FailureKind.CONFIGURATION)
            return DeclareResult(item, check, may_configure=True, consumers=consumers)
        case ChannelAccessRefused():
            found = f"exists{counted}; this user may not configure it, so it cannot be compared"
            check = unchecked(kind, found, _list_command(kind, node), subject=name)
            return DeclareResult(item, check, may_configure=False, consumers=consumers)
        case Exception():
            return _unreachable(item, no_answer(answer))
    check = ok(kind, f"exists, as configured{counted}", subject=name)
    return DeclareResult(item, check, may_configure=True, consumers=consumers)


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
    return failed("topology", f"missing: {listed}; a worker that may declares it at its start", APPLY)


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


# Bindings and policies, by the management API.


async def check_management(
    base: str, node: Node, topology: Topology, tls: ssl.SSLContext | None, on_check: OnCheck
) -> None:
    """Report what the management API at `base` knows; the login is that of the broker's URL."""
    vhost = url_quote(node.vhost, safe="")
    requests, events = (url_quote(exchange.name, safe="") for exchange in topology.exchanges)
    login, trust = (node.user or "", node.password), tls or ssl.create_default_context()
    try:
        async with httpx2.AsyncClient(auth=login, verify=trust, timeout=API_TIMEOUT_SECONDS, trust_env=False) as client:
            queues = await _list(client, f"{base}/api/queues/{vhost}?columns={_COLUMNS}")
            to_queues = await _list(client, f"{base}/api/exchanges/{vhost}/{requests}/bindings/source")
            to_readers = await _list(client, f"{base}/api/exchanges/{vhost}/{events}/bindings/source")
    except BrokerError as error:
        remedy = f"correct --management, or on the broker: {_commands(node)}"
        on_check(unchecked("bindings and policies", str(error), remedy))
        return
    on_check(_requests_bound(to_queues, topology))
    on_check(_events_bound(to_readers, topology, node))
    for check in (*_policies(queues, topology, node), *_unscheduled(queues, topology, node)):
        on_check(check)


def without_management(node: Node) -> Check:
    """What cannot be checked, and how to find out."""
    found = "whether a queue gets the events, and what policies change, cannot be seen over AMQP"
    return unchecked("bindings and policies", found, f"--management http://{node.host}:15672, or: {_commands(node)}")


def _commands(node: Node) -> str:
    """The same on the broker's own machine."""
    vhost = quote(node.vhost)
    return f"rabbitmqctl list_bindings -p {vhost}; rabbitmqctl list_policies -p {vhost}"


async def _list(client: httpx2.AsyncClient, url: str) -> list[Mapping[str, Any]]:
    try:
        async with asyncio.timeout(API_TIMEOUT_SECONDS), client.stream("GET", url) as reply:
            if reply.status_code == 404 and "/exchanges/" in url:
                return []  # there is no such exchange, which the comparison of the topology reports
            if reply.status_code == 401:
                raise BrokerError("the management API refuses this user: it takes the tag monitoring or management")
            if reply.status_code != 200:
                raise BrokerError(f"the management API answers {reply.status_code}")
            content = json.loads(await _read(reply))
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError) as error:
        raise BrokerError(f"the management API does not answer: {type(error).__name__}") from error
    except ValueError as error:
        raise BrokerError("what answers there is not the management API") from error
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise BrokerError("what answers there is not the management API")
    return content


async def _read(reply: httpx2.Response) -> bytes:
    content = bytearray()
    async for part in reply.aiter_bytes():
        content += part
        if len(content) > MAX_API_ANSWER_BYTES:
            raise BrokerError(f"the management API answers with more than {MAX_API_ANSWER_BYTES >> 20} MiB")
    return bytes(content)


def _requests_bound(bindings: Sequence[Mapping[str, Any]], topology: Topology) -> Check:
    queue, exchange = topology.requests_queue, topology.bindings[0].exchange
    expected = (queue, names.REQUEST_KEY)
    if any((binding.get("destination"), binding.get("routing_key")) == expected for binding in bindings):
        return ok("binding", f"the key {names.REQUEST_KEY} leads to {queue}", subject=exchange)
    found = f"the key {names.REQUEST_KEY} does not lead to {queue}: requests sent there are lost"
    return failed("binding", found, APPLY, subject=exchange)


def _events_bound(bindings: Sequence[Mapping[str, Any]], topology: Topology, node: Node) -> Check:
    exchange = topology.exchanges[1].name
    readers = sorted({str(binding.get("destination")) for binding in bindings})
    if readers:
        return ok("binding", f"events reach {', '.join(readers)[:300]}", subject=exchange)
    in_vhost = "" if node.vhost == "/" else f"-V {quote(node.vhost)} "
    remedy = (
        f"rabbitmqadmin {in_vhost}declare binding source={quote(exchange)} destination=QUEUE routing_key='migration.*'"
    )
    return warning("binding", "nothing is bound to it: events are dropped", remedy, subject=exchange)


def _unscheduled(queues: Sequence[Mapping[str, Any]], topology: Topology, node: Node) -> Iterator[Check]:
    """Retry queues that left the schedule and are empty; the numbered ones of 0.1.0 are seen over AMQP."""
    pattern = re.compile(re.escape(f"{topology.requests_queue}{names.RETRY_INFIX}") + r"[0-9.]+s")
    for queue in queues:
        name = str(queue.get("name"))
        if pattern.fullmatch(name) and name not in topology.retry_queues and queue.get("messages") == 0:
            yield unscheduled(name, node)


def _policies(queues: Sequence[Mapping[str, Any]], topology: Topology, node: Node) -> Iterator[Check]:
    ours, has_finding = {queue.name for queue in topology.queues}, False
    for queue in queues:
        effective = queue.get("effective_policy_definition")
        if queue.get("name") not in ours or not isinstance(effective, dict):
            continue
        if queue["name"] == names.parked_queue(topology.requests_queue):
            effective = {key: value for key, value in effective.items() if key != "delivery-limit"}
        if changed := ", ".join(f"{key} {effective[key]}" for key in _HARMFUL if key in effective):
            has_finding = True
            kind = "policy" if queue.get("policy") else "operator_policy"
            policy, found = str(queue.get(kind)), f"{queue.get(kind)!r} sets {changed[:300]}"
            remedy = f"rabbitmqctl clear_{kind} -p {quote(node.vhost)} {quote(policy)}, or keep this queue out of it"
            yield warning("policies", found, remedy, subject=str(queue["name"]))
    if not has_finding:
        yield ok("policies", "none changes what the queues were declared with")

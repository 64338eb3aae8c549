"""What RabbitMQ's management API says of bindings and policies; only GET is ever sent.

https://www.rabbitmq.com/docs/management#http-api
"""

import asyncio
import json
import re
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from shlex import quote
from typing import Any, Final
from urllib.parse import quote as url_quote

import httpx2

from schemas import names
from worker.policy.diagnostics import Check, OnCheck, failed, ok, unchecked, warning
from worker.rabbit.tools.broker_access import BrokerError, Node
from worker.rabbit.tools.topology_diff import APPLY, unscheduled
from worker.rabbit.topology import Topology

API_TIMEOUT_SECONDS: Final = 10.0
MAX_API_ANSWER_BYTES: Final = 4 << 20
_COLUMNS: Final = "name,messages,policy,operator_policy,effective_policy_definition"
_HARMFUL: Final = (
    *("message-ttl", "expires", "max-length", "max-length-bytes", "max-in-memory-length", "overflow", "delivery-limit"),
    *("dead-letter-exchange", "dead-letter-routing-key", "dead-letter-strategy"),
)
"""Keys of policies that make a queue lose, park or refuse messages in another way than it was declared to."""


async def check_management(
    base: str,
    node: Node,
    topology: Topology,
    tls: ssl.SSLContext | None,
    on_check: OnCheck,
    count: Callable[[str], Awaitable[int | None]],
) -> None:
    """Report what the management API at `base` knows; the login is that of the broker's URL.

    `count`: messages ready in a queue, as they are now; the numbers of the API are some seconds old.
    """
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
    for check in (*_others_bound(to_queues, topology, node), *_policies(queues, topology, node)):
        on_check(check)
    for name in _unscheduled(queues, topology):
        if await count(name) == 0:
            on_check(unscheduled(name, node))


def without_management(node: Node) -> Check:
    """What cannot be checked, and how to find out."""
    found = "not tested: AMQP does not show which queues get requests and events, and what policies change"
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


def _others_bound(bindings: Sequence[Mapping[str, Any]], topology: Topology, node: Node) -> Iterator[Check]:
    """What else gets requests: for an audit perhaps, or left from an earlier WORKER_QUEUE."""
    exchange = topology.bindings[0].exchange
    for binding in bindings:
        kind, name = str(binding.get("destination_type") or "queue"), str(binding.get("destination"))
        if name == topology.requests_queue or binding.get("routing_key") not in (names.REQUEST_KEY, None):
            continue
        found = f"the {kind} {name} gets a copy of each request, and a worker that consumes it would handle it too"
        key = quote(str(binding.get("properties_key", names.REQUEST_KEY)))
        places = f"source={quote(exchange)} destination_type={kind} destination={quote(name)} properties_key={key}"
        remedy = f"if this is not intended: rabbitmqadmin {_in_vhost(node)}delete binding {places}"
        yield warning("binding", found, remedy, subject=exchange)


def _in_vhost(node: Node) -> str:
    return "" if node.vhost == "/" else f"-V {quote(node.vhost)} "


def _events_bound(bindings: Sequence[Mapping[str, Any]], topology: Topology, node: Node) -> Check:
    exchange = topology.exchanges[1].name
    readers = sorted({str(binding.get("destination")) for binding in bindings})
    if readers:
        count = "1 queue is" if len(readers) == 1 else f"{len(readers)} queues are"
        return ok("binding", f"{count} bound for events: {', '.join(readers)[:300]}", subject=exchange)
    places = f"source={quote(exchange)} destination=QUEUE routing_key='migration.*'"
    remedy = f"rabbitmqadmin {_in_vhost(node)}declare binding {places}"
    return warning("binding", "no queue is bound for events: they are dropped", remedy, subject=exchange)


def _unscheduled(queues: Sequence[Mapping[str, Any]], topology: Topology) -> Iterator[str]:
    """Retry queues that left the schedule and were empty; the numbered ones of 0.1.0 are seen over AMQP."""
    pattern = re.compile(re.escape(f"{topology.requests_queue}{names.RETRY_INFIX}") + r"[0-9.]+s")
    for queue in queues:
        name = str(queue.get("name"))
        if pattern.fullmatch(name) and name not in topology.retry_queues and queue.get("messages") == 0:
            yield name


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

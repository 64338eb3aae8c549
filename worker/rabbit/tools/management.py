"""What AMQP does not tell: bindings and policies, read from the management API of the broker.

Source: https://www.rabbitmq.com/docs/management#http-api. Only GET is ever sent.
"""

import json
import ssl
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from shlex import quote as shell
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from schemas import names
from worker.policy.diagnostics import Check, OnCheck, failed, ok, unchecked, warning
from worker.rabbit.tools.broker_access import Node
from worker.rabbit.tools.topology_diff import APPLY
from worker.rabbit.topology import Topology

DEADLINE: Final = 10.0
LARGEST: Final = 4 << 20
_COLUMNS: Final = "name,policy,operator_policy,effective_policy_definition"
_HARMFUL: Final = (
    "message-ttl",
    "expires",
    "max-length",
    "max-length-bytes",
    "max-in-memory-length",
    "overflow",
    "delivery-limit",
    "dead-letter-exchange",
    "dead-letter-routing-key",
    "dead-letter-strategy",
)
"""Keys of policies that make a queue lose, park or refuse messages in another way than it was declared to."""


class NoAnswerError(Exception):
    """The management API gives no answer that can be used; the text says why."""


async def check_management(base: str, node: Node, plan: Topology, tls: ssl.SSLContext | None, tell: OnCheck) -> None:
    """Tell what the management API at `base` knows; the login is that of the broker's URL."""
    vhost = quote(node.vhost, safe="")
    requests, events = (quote(one.name, safe="") for one in plan.exchanges)
    login = b64encode(f"{node.user or ''}:{node.password}".encode()).decode()
    limits = aiohttp.ClientTimeout(total=DEADLINE)
    try:
        async with aiohttp.ClientSession(
            headers={"Authorization": f"Basic {login}"}, timeout=limits, trust_env=False
        ) as session:
            whole = f"{base}/api"
            queues = await _list(session, f"{whole}/queues/{vhost}?columns={_COLUMNS}", tls)
            sent = await _list(session, f"{whole}/exchanges/{vhost}/{requests}/bindings/source", tls)
            read = await _list(session, f"{whole}/exchanges/{vhost}/{events}/bindings/source", tls)
    except NoAnswerError as error:
        remedy = f"correct --management, or on the broker: {by_hand(node)}"
        tell(unchecked("bindings and policies", str(error), remedy))
        return
    tell(_requests_bound(sent, plan))
    tell(_events_bound(read, plan, node))
    for check in _policies(queues, plan, node):
        tell(check)


def without_management(node: Node) -> Check:
    """What cannot be told, and how to find out."""
    found = "whether a queue gets the events, and what policies change, cannot be told over AMQP"
    return unchecked("bindings and policies", found, f"--management http://{node.host}:15672, or: {by_hand(node)}")


def by_hand(node: Node) -> str:
    """The same on the broker's own machine."""
    vhost = shell(node.vhost)
    return f"rabbitmqctl list_bindings -p {vhost}; rabbitmqctl list_policies -p {vhost}"


async def _list(session: aiohttp.ClientSession, url: str, tls: ssl.SSLContext | None) -> list[Mapping[str, Any]]:
    try:
        async with session.get(url, ssl=tls if tls is not None else True, allow_redirects=False) as reply:
            if reply.status == 404 and "/exchanges/" in url:
                return []  # there is no such exchange, which has been told already
            if reply.status != 200:
                raise NoAnswerError(_refusal(reply.status))
            content = json.loads(await reply.content.read(LARGEST))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise NoAnswerError(f"the management API does not answer: {type(error).__name__}") from error
    except ValueError as error:
        raise NoAnswerError("what answers there is not the management API") from error
    if not isinstance(content, list) or not all(isinstance(one, dict) for one in content):
        raise NoAnswerError("what answers there is not the management API")
    return content


def _refusal(status: int) -> str:
    if status == 401:
        return "the management API refuses this user: it takes the tag monitoring or management"
    return f"the management API answers {status}"


def _requests_bound(bindings: Sequence[Mapping[str, Any]], plan: Topology) -> Check:
    queue, exchange = plan.requests_queue, plan.bindings[0].exchange
    wanted = (queue, names.REQUEST_KEY)
    if any((one.get("destination"), one.get("routing_key")) == wanted for one in bindings):
        return ok("binding", f"the key {names.REQUEST_KEY} leads to {queue}", subject=exchange)
    found = f"the key {names.REQUEST_KEY} does not lead to {queue}: requests sent there are lost"
    return failed("binding", found, APPLY, subject=exchange)


def _events_bound(bindings: Sequence[Mapping[str, Any]], plan: Topology, node: Node) -> Check:
    exchange = plan.exchanges[1].name
    readers = sorted({str(one.get("destination")) for one in bindings})
    if readers:
        return ok("binding", f"events reach {', '.join(readers)[:300]}", subject=exchange)
    declare = (
        "rabbitmqadmin declare binding"
        if node.vhost == "/"
        else f"rabbitmqadmin -V {shell(node.vhost)} declare binding"
    )
    remedy = f"{declare} source={shell(exchange)} destination=QUEUE routing_key='migration.*'"
    return warning("binding", "nothing is bound to it: events are dropped", remedy, subject=exchange)


def _policies(queues: Sequence[Mapping[str, Any]], plan: Topology, node: Node) -> Iterator[Check]:
    ours = {queue.name for queue in plan.queues}
    told = False
    for queue in queues:
        effective = queue.get("effective_policy_definition")
        if queue.get("name") not in ours or not isinstance(effective, dict):
            continue
        if changed := [f"{key} {effective[key]}" for key in _HARMFUL if key in effective]:
            told = True
            yield _policy(queue, ", ".join(changed)[:300], node)
    if not told:
        yield ok("policies", "none changes what the queues were declared with")


def _policy(queue: Mapping[str, Any], changed: str, node: Node) -> Check:
    kind = "policy" if queue.get("policy") else "operator_policy"
    found = f"{queue.get(kind)!r} sets {changed}"
    remedy = (
        f"rabbitmqctl clear_{kind} -p {shell(node.vhost)} {shell(str(queue.get(kind)))}, or keep this queue out of it"
    )
    return warning("policies", found, remedy, subject=str(queue.get("name")))

"""What the worker's user may do, found out with questions that are never granted.

RabbitMQ judges permissions before it looks at the rest of a question. So each question here is one whose rest
cannot be granted: to remove a binding with a key that nobody ever used (nothing is there to be removed), and to
consume with a priority that is no number (refused on every version from 3.2 on).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import uuid4

from aio_pika.abc import AbstractConnection
from aiormq import Channel
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed

from worker.policy.checkup import Check, Tell, failed, ok, unchecked, warning
from worker.rabbit.checks import Ask, Node, answer, permit
from worker.rabbit.connect import RPC_DEADLINE
from worker.rabbit.definitions import pattern
from worker.rabbit.inventory import Inventory, requests_queue
from worker.rabbit.topology import Topology

DEFAULT_EXCHANGE: Final = "amq.default"
_REFUSED: Final = re.compile(
    r"access to (?:exchange|queue) '(?P<name>.*?)' in vhost '.*' refused for user '(?P<user>.*)'"
)


_ANSWERS: Final = (ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed)
"""How a question ends that is never granted."""


@dataclass(frozen=True, slots=True)
class _Right:
    """One right that the worker needs: for what, and on which name."""

    purpose: str
    access: str
    name: str


async def check_permissions(
    connection: AbstractConnection, plan: Topology, found: Inventory, node: Node, tell: Tell
) -> None:
    """Tell which rights are missing, with one command that gives them all."""
    requests, events = plan.exchanges
    queue, may_be = requests_queue(plan), found.exchanges | found.queues | found.hidden
    rights = [
        _Right("publish copies", "write", DEFAULT_EXCHANGE),
        _Right("publish events", "write", events.name),
        _Right("consume requests", "read", queue),
    ]
    asked = [right for right in rights if right.name in may_be | {DEFAULT_EXCHANGE}]
    answers = [(right, await _refused(connection, right, requests.name)) for right in asked]
    # A certificate logs in as a user whose name only the broker knows.
    user = next((user for _, user in answers if user), node.user)
    tell(_judged(answers, found, len(rights), permit(replace(node, user=user), *_rights(plan))))


def _judged(answers: Sequence[tuple[_Right, str | None]], found: Inventory, wanted: int, remedy: str) -> Check:
    name, refused = "permissions", [right for right, user in answers if user]
    if refused:
        lacking = "; ".join(f"{right.access} on {right.name} to {right.purpose}" for right in refused)
        return failed(name, f"this user lacks {lacking}", remedy)
    if any(user is None for _, user in answers):
        return unchecked(name, "the broker did not answer", "dcs-worker doctor, once more")
    if found.may_configure is False:
        text = "this user may work, but not declare: what is missing has to be declared by another one"
        return warning(name, text, remedy)
    if len(answers) < wanted:
        return unchecked(name, "nothing is missing so far; the rest can be told once exchanges and queues are there")
    return ok(name, "this user may declare, consume, and publish events and copies")


async def _refused(connection: AbstractConnection, right: _Right, source: str) -> str | None:
    """The user to whom the broker refuses this right; empty if it does not, None if it gives no answer."""
    question = _consume(right.name) if right.access == "read" else _unbind(right.name, source)
    said = await answer(connection, question)
    if isinstance(said, Exception) and not isinstance(said, _ANSWERS):
        return None
    match = _REFUSED.search(str(said)) if isinstance(said, ChannelAccessRefused) else None
    return match["user"] if match is not None and match["name"] == right.name else ""


def _unbind(exchange: str, source: str) -> Ask[object]:
    """Remove a binding from `source` to `exchange`, which takes the right to write to that one first of all."""
    destination, key = "" if exchange == DEFAULT_EXCHANGE else exchange, f"doctor-{uuid4()}"

    async def ask(channel: Channel) -> object:
        return await channel.exchange_unbind(destination, source, key, timeout=RPC_DEADLINE)

    return ask


def _consume(queue: str) -> Ask[object]:
    arguments: dict[str, Any] = {"x-priority": "none"}

    async def ignore(_: DeliveredMessage) -> None:
        """Nothing is ever delivered."""

    async def ask(channel: Channel) -> object:
        return await channel.basic_consume(queue, ignore, arguments=arguments, timeout=RPC_DEADLINE)

    return ask


def _rights(plan: Topology) -> tuple[str, str, str]:
    """Patterns for configure, write and read that are as narrow as can be and cover any retry schedule."""
    queue = requests_queue(plan)
    names = [pattern(one.name) for one in plan.exchanges]
    names.append(pattern(queue) + r"(\.parked|\.retry\.\d+|\.lock\.[0-9a-f]+)?")
    own = "|".join(names)
    return f"^({own})$", rf"^(amq\.default|{own})$", f"^({own})$"

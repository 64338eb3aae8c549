"""The broker: every address of it, then, through the first that lets us in, all that the worker needs there."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Final

from worker.cli.checkup.network import Address, hurdle
from worker.policy.checkup import Check, Hurdle, Tell, Trouble, failed, ok, unchecked, warning
from worker.rabbit import checks
from worker.rabbit.checks import Door, LoginRefused, Node
from worker.rabbit.connect import Brokers
from worker.rabbit.inventory import check_topology
from worker.rabbit.management import check_management, without_management
from worker.rabbit.topology import Topology

VARIABLE: Final = "WORKER_AMQP_URL"


async def check_broker(brokers: Brokers, plan: Topology, management: str | None, tell: Tell) -> int | None:
    """Tell what there is to tell; how many consume the requests queue, if that could be seen.

    `management`: base URL of the broker's management API, if it is to be asked.
    """
    nodes = [Node.of(url) for url in brokers.urls]
    async with AsyncExitStack() as stack:
        doors = await _tried(stack, brokers, nodes)
        for check in _judged(nodes, doors):
            tell(check)
        inside = [(node, door) for node, door in zip(nodes, doors, strict=True) if not isinstance(door, Hurdle)]
        for node, connection in inside:
            tell(checks.version(connection, str(node)))
        if not inside:
            tell(unchecked("topology", "the broker cannot be asked for queues, exchanges and bindings"))
            return None
        node, connection = inside[0]
        inventory = await check_topology(connection, plan, node, tell)
        if management is not None:
            await check_management(management, node, plan, brokers.tls, tell)
        else:
            tell(without_management(node))
        return inventory.consumers


async def _tried(stack: AsyncExitStack, brokers: Brokers, nodes: Sequence[Node]) -> list[Door]:
    """The connection to each node, or what is in the way. A login that is refused is tried at no other node."""
    ways = await asyncio.gather(*(hurdle(Address(node.host, node.port, VARIABLE), brokers.tls) for node in nodes))
    refused: dict[tuple[str | None, str], Hurdle] = {}
    doors: list[Door] = []
    for turn, (node, barred) in enumerate(zip(nodes, ways, strict=True)):
        login = (node.user, node.password)
        door = barred or refused.get(login) or await checks.entered(stack, brokers, turn)
        if isinstance(door, LoginRefused):
            refused[login] = Hurdle("login: not tried, another node has refused the same one", door.remedy)
        doors.append(door)
    return doors


def _judged(nodes: Sequence[Node], doors: Sequence[Door]) -> Iterator[Check]:
    """A node that cannot be had is a failure only if no other one can."""
    is_any_open = any(not isinstance(door, Hurdle) for door in doors)
    for node, door in zip(nodes, doors, strict=True):
        if not isinstance(door, Hurdle):
            yield ok("broker", f"lets {_who(node)} into the vhost {node.vhost!r}", subject=str(node))
        elif is_any_open:
            yield warning("broker", door.found, door.remedy, subject=str(node))
        else:
            yield failed("broker", door.found, door.remedy, subject=str(node), trouble=Trouble.UNREACHABLE)


def _who(node: Node) -> str:
    return f"the user {node.user!r}" if node.user is not None else "the owner of the certificate"
